"""What belongs to a protected directory: excludes, mounts, caches, and what must never enter a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.bank.vault.files_patterns import Excludes
from karbor.errors import ResourceFailed

if TYPE_CHECKING:
    from karbor.sdk.vault import SkipReason, TreeOptions

CACHE_TAG = "CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""Source: the Cache Directory Tagging Specification."""
_PSEUDO = frozenset(
    [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    ]
)


class Scope:
    """Decides, entry by entry; made for one walk of one directory, whose descriptor is `root`."""

    def __init__(self, root: int, options: TreeOptions) -> None:
        """`ResourceFailed` where the directory itself lies in what must never be protected."""
        self._options = options
        self._excludes = Excludes(options.excludes)
        self._never = set(_identities(options.never))
        self._root_device = os.fstat(root).st_dev
        self._refuse_never_above(root)
        if _file_system(root) in _PSEUDO:
            raise ResourceFailed("the directory to protect lies on a pseudo file system")

    def excluded(self, name: str, parent: str, *, directory: bool) -> bool:
        """Whether a pattern excludes the entry `name` of `parent`."""
        return self._excludes.match(name, parent, directory=directory)

    def never(self, found: os.stat_result) -> bool:
        """Whether this is one of the service's own things, under whatever name."""
        return (found.st_dev, found.st_ino) in self._never

    def unentered(self, directory: int, found: os.stat_result, parent_device: int) -> SkipReason | None:
        """Why nothing that lies in the open directory is taken, if so: it is kept as an empty one, so that a restore
        makes the mount point again.
        """
        if found.st_dev != parent_device:
            if _file_system(directory) in _PSEUDO:
                return "pseudo file system"
            if self._options.one_file_system and found.st_dev != self._root_device:
                return "other file system"
        return None

    def is_cache(self, directory: int, names: list[str]) -> bool:
        """Whether only the tag file is taken of the directory that has these entries."""
        if not self._options.skip_caches or CACHE_TAG not in names:
            return False
        try:
            tag = os.open(CACHE_TAG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return False
        try:
            return os.read(tag, len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
        except OSError:
            return False
        finally:
            os.close(tag)

    def _refuse_never_above(self, root: int) -> None:
        here = os.dup(root)
        try:
            last = None
            while last != (identity := _identity(os.fstat(here))):
                if identity in self._never:
                    raise ResourceFailed("the directory to protect lies in the service's own bank, state or keys")
                last = identity
                above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
                os.close(here)
                here = above
        except PermissionError:
            return  # what lies above cannot be looked at by us, so it is not the service's own
        finally:
            os.close(here)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _identities(paths: tuple[str, ...]) -> list[tuple[int, int]]:
    found = []
    for path in paths:
        try:
            found.append(_identity(Path(path).stat()))
        except OSError:
            continue  # what is not there cannot be met
    return found


def _file_system(directory: int) -> str:
    """The type of the file system that an open directory lies on, as /proc/self/mountinfo names it."""
    fields = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/self/fdinfo/{directory}").read_text().splitlines()
        if ":\t" in line
    )
    mount = fields["mnt_id"].strip()
    with Path("/proc/self/mountinfo").open(errors="surrogateescape") as lines:
        for line in lines:
            words = line.split()
            if words[0] == mount:
                return words[words.index("-") + 1]
    return ""
