"""The content of files as blobs: small ones whole, large ones in content-defined chunks, holes without reading them."""

from __future__ import annotations

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Self

from karbor.bank.vault.stream import Chunker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from karbor.bank.vault.writer import Writer

SMALL = 1 << 20
"""A file of at most so many bytes is one blob."""
_INLINE = 128 << 10
"""Below this, handing a blob to another thread costs more than it gains."""
_PENDING = 128
_SPARSE = 512 << 10
_LARGEST = 8 << 20
Parts = list["bytes | Future[bytes]"]
"""The ids of a file's blobs, some still on their way."""


def resolved(parts: Parts) -> bytes:
    """A node's content; waits for what is on its way, and raises what went wrong there."""
    return b"".join(part if isinstance(part, bytes) else part.result() for part in parts)


def done(parts: Parts) -> bool:
    """Whether `resolved` would return at once."""
    return all(isinstance(part, bytes) or part.done() for part in parts)


class FileContents:
    """Stores the contents of files, `threads` blobs at a time and at most twice as many waiting."""

    def __init__(self, writer: Writer, *, threads: int, read: Callable[[int], None]) -> None:
        """`read` is called with the number of bytes of each piece that was read, and may raise to stop."""
        self._writer = writer
        self._chunker = Chunker(writer.repository.config.chunker_polynomial)
        self._read = read
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vault")
        self._room = BoundedSemaphore(2 * threads)
        self._zeros: dict[int, bytes] = {}
        self._lock = Lock()
        self.added_bytes = 0
        """Sealed bytes of the blobs that were new."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=error is not None)

    def store(self, file: int, size: int) -> tuple[Parts, int]:
        """Store the first `size` bytes of an open file; its parts, and how many bytes that is by now."""
        if size > SMALL:
            return self._store_large(file, size)
        content = _read_whole(file, size)
        self._read(len(content))
        return ([self._save(content)] if content else []), len(content)

    def _store_large(self, file: int, size: int) -> tuple[Parts, int]:
        content = bytearray()
        parts: Parts = []
        offset = 0
        sparse = False
        for start, end in _data(file, size):
            parts.append(self._hole(start - offset, first=not sparse))
            sparse = sparse or start > offset
            offset = start
            for chunk in self._chunker.cut(_Segment(file, start, end)):
                self._read(len(chunk))
                parts.append(self._save(chunk))
                offset += len(chunk)
                if len(parts) > _PENDING:  # of a huge file only the ids stay
                    content += resolved(parts[: _PENDING // 2])
                    del parts[: _PENDING // 2]
        # Where the file was cut while it was read, its end may lie before what was read last.
        size = max(min(size, os.fstat(file).st_size), offset)
        parts.append(self._hole(size - offset, first=not sparse))
        return [bytes(content), *parts], size

    def _save(self, data: bytes) -> bytes | Future[bytes]:
        if len(data) < _INLINE:
            return self._put(data)
        self._room.acquire()
        try:
            future = self._pool.submit(self._put, data)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _put(self, data: bytes) -> bytes:
        blob_id, added = self._writer.store("data", data)
        if added:
            with self._lock:
                self.added_bytes += added
        return blob_id

    def _hole(self, length: int, *, first: bool) -> bytes:
        """Ids of zeros. A file's first hole has some of 512 KiB where it can: by them restic's sparse restore knows it."""
        large, rest = divmod(length, _LARGEST)
        small, tail = divmod(rest, _SPARSE)
        if first and large:
            large, small = large - 1, small + _LARGEST // _SPARSE
        counts = {_LARGEST: large, _SPARSE: small, tail: 1 if tail else 0}
        return b"".join(self._zero(size) * count for size, count in counts.items() if count)

    def _zero(self, size: int) -> bytes:
        if size not in self._zeros:
            self._zeros[size] = self._put(bytes(size))
        return self._zeros[size]


class _Segment:
    """The bytes of a file from `start` to `end`, or to where it ends by now; a raw stream."""

    def __init__(self, file: int, start: int, end: int) -> None:
        self._file, self._at, self._end = file, start, end

    def readinto(self, buffer: memoryview) -> int:
        count = os.preadv(self._file, [buffer[: self._end - self._at]], self._at) if self._at < self._end else 0
        self._at += count
        return count


def _read_whole(file: int, size: int) -> bytes:
    """The first `size` bytes, or fewer where the file has been cut."""
    content = os.pread(file, size, 0) if size else b""
    while len(content) < size and (piece := os.pread(file, size - len(content), len(content))):
        content += piece
    return content


def _data(file: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of a file's first `size` bytes that are not holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says that there is no data after `end`
                yield end, size  # the file system does not tell
            return
        if start < size:
            yield start, min(end, size)
