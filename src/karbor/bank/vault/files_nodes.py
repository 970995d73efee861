"""Directory entries as nodes: what the system tells about a file, read through descriptors."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from karbor.bank.vault.nodes import Node

if TYPE_CHECKING:
    from karbor.bank.vault.files_skips import Skips
    from karbor.bank.vault.nodes import NodeType

_TYPES: dict[int, NodeType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "dev",
    stat.S_IFCHR: "chardev",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_LINKED = frozenset(("file", "symlink", "dev", "chardev"))
_NO_ATTRIBUTES = frozenset((errno.ENOTSUP, errno.ENOSYS))
Attributes = tuple[tuple[bytes, bytes], ...]


def type_of(found: os.stat_result) -> NodeType:
    """The node type of what `stat` found."""
    return _TYPES.get(stat.S_IFMT(found.st_mode), "irregular")


class OwnerNames:
    """Names of users and groups, each asked for once in a walk."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """The user's name, empty where there is none."""
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = ""
        return self._users[uid]

    def group(self, gid: int) -> str:
        """The group's name, empty where there is none."""
        if gid not in self._groups:
            try:
                self._groups[gid] = grp.getgrgid(gid).gr_name
            except KeyError:
                self._groups[gid] = ""
        return self._groups[gid]


def make_node(
    name: bytes,
    found: os.stat_result,
    attributes: Attributes,
    owners: OwnerNames,
    *,
    size: int = 0,
    content: bytes = b"",
    linktarget: bytes = b"",
    subtree: bytes = b"",
) -> Node:
    """The node of an entry. The access time is not kept: it would change a directory's tree at every reading."""
    kind = type_of(found)
    return Node(
        name=name,
        type=kind,
        mode=stat.S_IMODE(found.st_mode),
        mtime=found.st_mtime_ns,
        atime=found.st_mtime_ns,
        ctime=found.st_ctime_ns,
        uid=found.st_uid,
        gid=found.st_gid,
        user=owners.user(found.st_uid),
        group=owners.group(found.st_gid),
        inode=found.st_ino,
        device_id=found.st_dev,
        size=size,
        links=found.st_nlink if kind in _LINKED else 0,
        linktarget=linktarget,
        xattrs=attributes,
        device=found.st_rdev if kind in ("dev", "chardev") else 0,
        content=content,
        subtree=subtree,
    )


def read_attributes(target: int | str, path: str, skips: Skips) -> Attributes:
    """Extended attributes, ACLs among them, of an open file or of a link's own path; ascending by name.

    `path` names the thing in `skips`, where an attribute that cannot be read or kept is listed.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return ()
        raise
    if not names:
        return ()
    found = []
    for name in sorted(names):
        try:
            found.append((name.encode(), os.getxattr(target, name, follow_symlinks=follow)))
        except UnicodeEncodeError:
            skips.add(path, "attribute", "an extended attribute has a name that is not UTF-8")
        except OSError as error:
            if error.errno != errno.ENODATA:  # removed meanwhile
                skips.add(path, "attribute", f"{name}: {error.strerror}")
    return tuple(found)
