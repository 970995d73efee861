"""`MemoryVault`: a vault in memory, for tests of plugins. It keeps directories, regular files and symbolic links."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from karbor.errors import ObjectMissing
from karbor.sdk.vault import Restored, Skipped, Verified, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from karbor.sdk.vault import ImageSource, ImageTarget, RestoreOptions, TreeOptions

    Progress = Callable[[int, int], None] | None

_CHUNK = 1 << 16


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    mode: int
    mtime_ns: int
    data: bytes = b""


class MemoryVault:
    """The bytes of one resource; what was written last is what is read."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.extents: list[tuple[int, int]] = []
        self.tree: dict[str, _Node] | None = None
        self.writes = 0
        """How often something was stored."""

    def write_image(
        self,
        source: ImageSource,
        *,
        changed: Iterable[tuple[int, int]] | None = None,
        progress: Progress = None,
    ) -> Written:
        """Store an image."""
        del changed
        content = bytearray(source.size)
        self.extents = []
        for offset, length in source.extents():
            for start in range(offset, offset + length, _CHUNK):
                piece = source.read_at(start, min(_CHUNK, offset + length - start))
                content[start : start + len(piece)] = piece
                _tell(progress, start + len(piece), source.size)
            self.extents.append((offset, length))
        return self._kept(bytes(content), sum(length for _, length in self.extents))

    def write_stream(self, source: Iterable[bytes], *, progress: Progress = None) -> Written:
        """Store a stream."""
        content = bytearray()
        for chunk in source:
            content += chunk
            _tell(progress, len(content), 0)
        self.extents = [(0, len(content))]
        return self._kept(bytes(content), len(content))

    def write_tree(self, root: int, options: TreeOptions, *, progress: Progress = None) -> Written:
        """Store a directory; of the options only literal names in `excludes` count."""
        found: dict[str, _Node] = {}
        skipped: list[Skipped] = []
        for folder, folders, names, fd in os.fwalk(".", dir_fd=root):
            found[_relative(folder, "")] = _node(fd, ".")
            for name in list(folders) + names:
                path = _relative(folder, name)
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if path in options.excludes or f"/{path}" in options.excludes or name in options.excludes:
                    skipped.append(Skipped(path, "excluded"))
                    folders[:] = [other for other in folders if other != name]
                elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    found[path] = _node(fd, name)
        self.tree, self.data = found, None
        size = sum(len(node.data) for node in found.values())
        _tell(progress, size, size)
        self.writes += 1
        return Written(
            tree=hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest(),
            logical_bytes=size,
            read_bytes=size,
            added_bytes=size,
            files=sum(stat.S_ISREG(node.mode) for node in found.values()),
            skipped=tuple(skipped),
            skipped_count={"excluded": len(skipped)} if skipped else {},
        )

    def image(self) -> MemoryReader:
        """Random access."""
        return MemoryReader(self._stored())

    def restore_image(self, target: ImageTarget, *, progress: Progress = None) -> Restored:
        """Write the image to a target."""
        content = self._stored()
        end = 0
        for offset, length in self.extents:
            if offset > end:
                target.zero(end, offset - end)
            for start in range(offset, offset + length, _CHUNK):
                target.write_at(start, content[start : min(start + _CHUNK, offset + length)])
            end = offset + length
            _tell(progress, end, len(content))
        if end < len(content):
            target.zero(end, len(content) - end)
        return Restored(logical_bytes=len(content))

    def read_stream(self) -> Iterator[bytes]:
        """The stream from its start."""
        content = self._stored()
        return (content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK))

    def restore_tree(
        self, target: int, options: RestoreOptions, *, path: str = "", progress: Progress = None
    ) -> Restored:
        """Write the tree, or one path of it, below a directory."""
        nodes = self._stored_tree()
        chosen = {name: node for name, node in nodes.items() if not path or _lies_at(name, path)}
        if path and path not in chosen:
            raise ObjectMissing(path)
        skipped: list[Skipped] = []
        for name, node in sorted(chosen.items()):
            if not _write(target, name, node, overwrite=options.overwrite):
                skipped.append(Skipped(name, "exists"))
        for name, node in sorted(chosen.items(), reverse=True):
            if stat.S_ISDIR(node.mode):
                os.utime(name or ".", ns=(node.mtime_ns, node.mtime_ns), dir_fd=target)
        size = sum(len(node.data) for node in chosen.values())
        _tell(progress, size, size)
        counts = {"exists": len(skipped)} if skipped else {}
        return Restored(logical_bytes=size, files=len(chosen), skipped=tuple(skipped), skipped_count=counts)

    def verify(self, *, progress: Progress = None) -> Verified:
        """Say how much there is."""
        size = sum(len(n.data) for n in self.tree.values()) if self.tree is not None else len(self._stored())
        _tell(progress, size, size)
        return Verified(logical_bytes=size, blobs=1)

    def _kept(self, content: bytes, read: int) -> Written:
        self.data, self.tree = content, None
        self.writes += 1
        name = hashlib.sha256(content).hexdigest()
        return Written(tree=name, logical_bytes=len(content), read_bytes=read, added_bytes=read)

    def _stored(self) -> bytes:
        if self.data is None:
            raise ObjectMissing("data")
        return self.data

    def _stored_tree(self) -> dict[str, _Node]:
        if self.tree is None:
            raise ObjectMissing("data")
        return self.tree


class MemoryReader:
    """Random access to bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes."""
        return self._content[offset : offset + length]

    def extents(self) -> Iterator[tuple[int, int]]:
        """All of it."""
        yield 0, self.size


def _tell(progress: Progress, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _lies_at(name: str, path: str) -> bool:
    """Whether a node is at a path, below it, or a folder on the way to it."""
    return f"{name}/".startswith(f"{path}/") or path.startswith(f"{name}/")


def _relative(folder: str, name: str) -> str:
    return os.path.normpath(f"{folder}/{name}").removeprefix(".").removeprefix("/") if folder != "." else name


def _node(folder: int, name: str) -> _Node:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    data = b""
    if stat.S_ISLNK(status.st_mode):
        data = os.fsencode(os.readlink(name, dir_fd=folder))
    elif stat.S_ISREG(status.st_mode):
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), "rb") as file:
            data = file.read()
    return _Node(mode=status.st_mode, mtime_ns=status.st_mtime_ns, data=data)


def _write(root: int, name: str, node: _Node, *, overwrite: bool) -> bool:
    """Make one node; False where another one is there and stays."""
    if stat.S_ISDIR(node.mode):
        if name and not os.path.lexists(f"/proc/self/fd/{root}/{name}"):
            os.mkdir(name, stat.S_IMODE(node.mode), dir_fd=root)
        return True
    if os.path.lexists(f"/proc/self/fd/{root}/{name}"):
        if _node(root, name) == node:
            return True
        if not overwrite:
            return False
        os.unlink(name, dir_fd=root)
    if stat.S_ISLNK(node.mode):
        os.symlink(node.data, os.fsencode(name), dir_fd=root)
    else:
        with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=root), "wb") as file:
            file.write(node.data)
            os.fchmod(file.fileno(), stat.S_IMODE(node.mode))
    os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=root, follow_symlinks=False)
    return True
