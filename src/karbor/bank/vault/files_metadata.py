"""Giving restored things their owner, attributes, mode and times: through descriptors, and no more than was allowed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karbor.bank.vault.files_skips import Skips
    from karbor.bank.vault.nodes import Node
    from karbor.sdk.vault import RestoreOptions

_SECURITY = ("security.", "trusted.")
_OURS = ("user.", "system.posix_acl_")
"""Attributes that a file has only because it was given them: what the node lacks is taken away."""
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Metadata:
    """Applies nodes to what was made for them; what cannot be applied or must not be is told to `skips`."""

    def __init__(self, options: RestoreOptions, skips: Skips) -> None:
        self._options, self._skips = options, skips

    def mode(self, node: Node) -> int:
        """The permission bits that the node may have here."""
        return node.mode & (0o7777 if self._options.set_id_bits else 0o7777 & ~_SET_ID)

    def apply(self, target: int | str, node: Node, path: str) -> None:
        """`target` is a descriptor, or the path in /proc of one that names a link or a device."""
        found = os.stat(target)  # noqa: PTH116 - it may be a descriptor
        self._own(target, found, node, path)
        self._set_attributes(target, node, path)
        if node.type != "symlink":
            if node.mode & _SET_ID and not self._options.set_id_bits:
                self._skips.add(path, "set-id bits")
            try:
                os.chmod(target, self.mode(node))  # noqa: PTH101 - it may be a descriptor
            except OSError as error:  # an existing directory may be another's
                self._skips.add(path, "attribute", f"mode: {error.strerror}")
        try:
            os.utime(target, ns=(node.atime, node.mtime))
        except (OSError, OverflowError):
            self._skips.add(path, "attribute", "the file system cannot keep its times")

    def equal(self, file: int, found: os.stat_result, node: Node) -> bool:
        """Whether `apply` would change nothing of the open file."""
        wanted = {os.fsdecode(name): value for name, value in node.xattrs if self._allowed(os.fsdecode(name))}
        kept = {name: value for name, value in _attributes(file).items() if name in wanted or name.startswith(_OURS)}
        return (
            stat.S_IMODE(found.st_mode) == self.mode(node)
            and found.st_mtime_ns == node.mtime
            and (not self._options.owners or (found.st_uid, found.st_gid) == (node.uid, node.gid))
            and kept == wanted
        )

    def _allowed(self, name: str) -> bool:
        return self._options.security_attributes or not name.startswith(_SECURITY)

    def _own(self, target: int | str, found: os.stat_result, node: Node, path: str) -> None:
        if (found.st_uid, found.st_gid) == (node.uid, node.gid):
            return
        if not self._options.owners:
            self._skips.add(path, "owner")
            return
        try:
            os.chown(target, node.uid, node.gid)
        except (OSError, OverflowError) as error:
            self._skips.add(path, "owner", getattr(error, "strerror", None) or str(error))

    def _set_attributes(self, target: int | str, node: Node, path: str) -> None:
        wanted = {os.fsdecode(name): value for name, value in node.xattrs}
        has = _attributes(target)
        for name in has.keys() - wanted.keys():
            if name.startswith(_OURS):
                os.removexattr(target, name)
        for name, value in wanted.items():
            if has.get(name) == value:
                continue
            if not self._allowed(name):
                self._skips.add(path, "security attribute", name)
                continue
            try:
                os.setxattr(target, name, value)
            except (OSError, ValueError) as error:
                self._skips.add(path, "attribute", f"{name}: {getattr(error, 'strerror', None) or error}")


def _attributes(target: int | str) -> dict[str, bytes]:
    """Extended attributes; none where the file system has none."""
    try:
        return {name: os.getxattr(target, name) for name in os.listxattr(target)}
    except OSError:
        return {}
