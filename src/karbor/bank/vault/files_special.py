"""Restoring what is neither file nor directory: symbolic links, named pipes and, where that is allowed, devices."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from karbor.bank.vault.files_target import Taken, clear_scratch, look, new_special, valid_target

if TYPE_CHECKING:
    from karbor.bank.vault.files_metadata import Metadata
    from karbor.bank.vault.nodes import Node
    from karbor.sdk.vault import RestoreOptions, SkipReason

_KINDS = {"symlink": stat.S_IFLNK, "dev": stat.S_IFBLK, "chardev": stat.S_IFCHR, "fifo": stat.S_IFIFO}


class LeftOut(Exception):
    """It is not restored, for `reason`."""

    def __init__(self, reason: SkipReason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def restore_special(directory: int, node: Node, options: RestoreOptions, metadata: Metadata, path: str) -> None:
    """Make the node in an open directory, unless it is there and equal; `LeftOut` where it cannot or must not be."""
    if node.type not in _KINDS or (node.type in ("dev", "chardev") and not options.devices):
        raise LeftOut("socket" if node.type == "socket" else "device")
    if node.type == "symlink" and not valid_target(node.linktarget):
        raise LeftOut("name", "no link can have this target")
    found = look(directory, node.name)
    if found is not None:
        equal = _is_equal(directory, node, found, metadata)
        if equal or not options.overwrite or stat.S_ISDIR(found.st_mode):
            clear_scratch(directory, node.name)
            if equal:
                return
            raise LeftOut("exists")
    try:
        with new_special(
            directory,
            node.name,
            lambda name: _make(directory, name, node),
            _KINDS[node.type],
            overwrite=options.overwrite,
        ) as made:
            metadata.apply(made, node, path)
    except Taken:
        raise LeftOut("exists") from None


def _is_equal(directory: int, node: Node, found: os.stat_result, metadata: Metadata) -> bool:
    """Times of links and devices are not compared: what they point to is what they are."""
    if stat.S_IFMT(found.st_mode) != _KINDS[node.type]:
        return False
    if node.type == "symlink":
        return os.readlink(node.name, dir_fd=directory) == node.linktarget
    return found.st_rdev == node.device and stat.S_IMODE(found.st_mode) == metadata.mode(node)


def _make(directory: int, name: bytes, node: Node) -> None:
    if node.type == "symlink":
        os.symlink(node.linktarget, name, dir_fd=directory)
        return
    try:
        os.mknod(name, _KINDS[node.type] | 0o600, node.device, dir_fd=directory)
    except OverflowError:
        raise LeftOut("device", "there is no such device number") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
        raise LeftOut("device", error.strerror or str(error)) from None
