"""Content-defined chunks, for streams and large files: an insertion moves the cuts with it.

FastCDC with restic's limits (512 KiB to 8 MiB, 1 MiB on average). The cuts depend on a secret of the repository, so
that the lengths of stored blobs do not tell which known file they belong to.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import msgspec
from pyfastcdc import FastCDC

from karbor.bank.vault.workers import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from karbor.bank.vault.writer import Writer

_MIN, _AVERAGE, _MAX = 512 << 10, 1 << 20, 8 << 20


class Readable(Protocol):
    """What is cut: a raw stream."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the front of `buffer`; how many bytes, 0 at the end."""
        ...


class Chunker:
    """Cuts streams; `secret` is the repository's chunker polynomial."""

    def __init__(self, secret: str) -> None:
        seed = int.from_bytes(hashlib.sha256(b"karbor-fastcdc" + secret.encode()).digest()[:8]) >> 1
        self._fastcdc = FastCDC(_AVERAGE, min_size=_MIN, max_size=_MAX, normalized_chunking=2, seed=seed)

    def cut(self, stream: Readable) -> Iterator[bytes]:
        """The chunks of a stream, in order."""
        return (bytes(chunk.data) for chunk in self._fastcdc.cut_stream(stream))


class StreamFigures(msgspec.Struct, frozen=True):
    """What writing a stream stored: the ids of its chunks, 32 bytes each, its size, and the sealed bytes added."""

    content: bytes
    size: int
    added: int


def write_stream(
    writer: Writer, source: Iterable[bytes], *, threads: int = 2, progress: Callable[[int, int], None] | None = None
) -> StreamFigures:
    """Store a stream of unknown length. The calling thread reads and cuts; at most two chunks per thread wait."""
    tally = Tally(0, progress)
    content, added = bytearray(), 0
    pending: deque[Future[tuple[bytes, int]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="vault") as pool:
        try:
            for chunk in Chunker(writer.repository.config.chunker_polynomial).cut(_Feed(source)):
                pending.append(pool.submit(writer.store, "data", chunk))
                tally.add(len(chunk))
                if len(pending) > 2 * threads:
                    added += _take(pending, content)
            while pending:
                added += _take(pending, content)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return StreamFigures(bytes(content), tally.done, added)


def _take(pending: deque[Future[tuple[bytes, int]]], content: bytearray) -> int:
    blob_id, added = pending.popleft().result()
    content += blob_id
    return added


class _Feed:
    """An iterable of bytes as a raw stream."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = iter(source)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        while not self._rest:
            piece = next(self._source, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
