"""Writing disk images: fixed chunks, zeros that cost nothing, and increments from a list of changed blocks.

An image is one file node whose chunks all have one size, or several of 2 TiB each. In memory it is a *grid*, 32 bytes
per chunk. One thing breaks the grid's regularity in the stored node: `restic restore --sparse` makes a file sparse only
if one of its blobs is 512 KiB of zeros, so the first zeros of a grid are written as blobs of that size.
"""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from karbor.bank.vault.nodes import Node
from karbor.bank.vault.workers import Tally, share
from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from karbor.bank.vault.writer import Writer
    from karbor.sdk.vault import ImageSource

DEFAULT_CHUNK = 256 << 10
MAX_CHUNK = 8 << 20
PART = 2 << 40
"""The largest image that is one node, in bytes."""
_MAX_CHUNKS = 1 << 18
_SPARSE = 512 << 10
_SPARSE_ID = hashlib.sha256(bytes(_SPARSE)).digest()


class ImageFigures(msgspec.Struct, frozen=True):
    """What writing an image took, in bytes."""

    read: int
    added: int


def chunk_size_for(size: int, smallest: int = DEFAULT_CHUNK) -> int:
    """The chunk size of a new image of `size` bytes: from `smallest`, doubled until 262,144 chunks are enough."""
    chunk = smallest
    while chunk < MAX_CHUNK and -(-min(size, PART) // chunk) > _MAX_CHUNKS:
        chunk *= 2
    return chunk


class ImageWriter:
    """Writes one image. `previous` are its nodes in the checkpoint before, `smallest` the provider's chunk size."""

    def __init__(
        self,
        writer: Writer,
        source: ImageSource,
        *,
        previous: tuple[Node, ...] = (),
        smallest: int = DEFAULT_CHUNK,
        threads: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not DEFAULT_CHUNK <= smallest <= MAX_CHUNK or smallest & (smallest - 1):
            raise InvalidInput(
                f"a chunk size is a power of two from 256 KiB to 8 MiB, not {smallest}", field="chunk_size"
            )
        self._writer, self._source, self._threads, self._progress = writer, source, threads, progress
        self._previous = previous
        self.chunk = self._inherited_chunk() or chunk_size_for(source.size, smallest)
        self._count = -(-source.size // self.chunk)
        self._zeros = bytes(self.chunk)
        self._zero_id = hashlib.sha256(self._zeros).digest()
        self._lock = Lock()
        self._added = 0

    def write(self, changed: Iterable[tuple[int, int]] | None) -> tuple[list[Node], ImageFigures]:
        """The image's nodes. With `changed` only these (offset, length) are read, if the previous image can be inherited."""
        grid = np.full((self._count, 32), np.frombuffer(self._zero_id, np.uint8), np.uint8)
        inherited = 0 if changed is None else self._inherit(grid)
        unread = np.zeros(self._count, np.bool_)
        self._mark(unread, self._source.extents(), inherited)
        if changed is not None and inherited:
            self._mark(unread, changed, 0)
        todo = np.flatnonzero(unread)
        tally = Tally(self._bytes_of(todo), self._progress)
        share(todo.tolist(), lambda number: self._write_chunk(grid, number, tally), threads=self._threads)
        nodes = list(self._nodes(grid))
        return nodes, ImageFigures(tally.done, self._added)

    def _bytes_of(self, chunks: npt.NDArray[np.intp]) -> int:
        """The bytes of these chunks, of which the last of the image may be short."""
        short = self._count * self.chunk - self._source.size
        return int(chunks.size) * self.chunk - (short if chunks.size and chunks[-1] == self._count - 1 else 0)

    def _mark(self, unread: npt.NDArray[np.bool_], ranges: Iterable[tuple[int, int]], first: int) -> None:
        """Mark the chunks of `ranges` from chunk `first` on."""
        for offset, length in ranges:
            if offset < 0 or length < 0:
                raise InvalidInput(f"a range of an image is impossible: {length} bytes at {offset}")
            unread[max(offset // self.chunk, first) : -(-(offset + length) // self.chunk)] = True

    def _write_chunk(self, grid: npt.NDArray[np.uint8], number: int, tally: Tally) -> None:
        offset = number * self.chunk
        data = self._source.read_at(offset, min(self.chunk, self._source.size - offset))
        # A short tail is stored even if it is zeros: its blob is no whole zero chunk.
        if data == self._zeros:
            blob_id, added = self._zero_id, 0
        else:
            blob_id, added = self._writer.store("data", data)
        grid[number] = np.frombuffer(blob_id, np.uint8)
        if added:
            with self._lock:
                self._added += added
        tally.add(len(data))

    # --- the image as nodes

    def _nodes(self, grid: npt.NDArray[np.uint8]) -> Iterator[Node]:
        self._save_tail(grid)
        per_part = PART // self.chunk
        parts = range(0, max(self._count, 1), per_part)
        for number, first in enumerate(parts):
            name = b"data.%04d" % number if len(parts) > 1 else b"data"
            size = min(PART, self._source.size - first * self.chunk)
            yield self._node(name, size, self._sparse_content(grid[first : first + per_part]))

    def _save_tail(self, grid: npt.NDArray[np.uint8]) -> None:
        """A short last chunk that lies in a hole was not read; it needs a blob of its own length."""
        tail = self._source.size % self.chunk
        if tail and bytes(grid[-1]) == self._zero_id:
            grid[-1] = np.frombuffer(self._store(bytes(tail)), np.uint8)

    def _store(self, data: bytes) -> bytes:
        blob_id, added = self._writer.store("data", data)
        self._added += added
        return blob_id

    def _sparse_content(self, grid: npt.NDArray[np.uint8]) -> bytes:
        """The content of a part; makes sure that the zero blobs it names exist."""
        content = grid.tobytes()
        zero = np.frombuffer(content, "V32") == np.void(self._zero_id)
        chunks = max(_SPARSE // self.chunk, 1)
        runs = zero[:-1] & zero[1:] if chunks == 2 else zero
        if not zero.any():
            return content
        if runs.any():
            first = int(np.argmax(runs))
            ids = self._store(bytes(_SPARSE)) * max(self.chunk // _SPARSE, 1)
            content = content[: first * 32] + ids + content[(first + chunks) * 32 :]
            zero[first : first + chunks] = False
        if zero.any():
            self._store(self._zeros)
        return content

    def _node(self, name: bytes, size: int, content: bytes) -> Node:
        """The previous node where nothing changed, so that its tree is the same blob."""
        for node in self._previous:
            if (node.name, node.size, node.content) == (name, size, content):
                return node
        now = self._writer.repository.now_ns()
        return Node(
            name=name, type="file", mode=0o600, mtime=now, atime=now, ctime=now, size=size, links=1, content=content
        )

    # --- what the previous image gives

    def _inherited_chunk(self) -> int:
        """The chunk size that the image had, which it keeps; 0 where it had none or has outgrown it."""
        content = b"".join(node.content for node in self._previous)
        sizes = self._writer.repository.index.locate("data", content).plain_sizes
        ids = np.frombuffer(content, "V32")
        sizes = sizes[(ids != np.void(_SPARSE_ID)) & (sizes > 0)]
        chunk = int(sizes.max()) if sizes.size else 0
        usable = DEFAULT_CHUNK <= chunk <= MAX_CHUNK and chunk & (chunk - 1) == 0
        return chunk if usable and self._source.size // chunk <= 4 * _MAX_CHUNKS else 0

    def _inherit(self, grid: npt.NDArray[np.uint8]) -> int:
        """Fill the grid with the previous image's chunks, as far as they are whole, regular and all in the bank;
        how many there are, 0 where the previous image cannot be inherited.
        """
        ids = b"".join(self._regular(node.content) for node in self._previous)
        size = sum(node.size for node in self._previous)
        sizes = self._writer.locate("data", ids).plain_sizes
        sizes[np.frombuffer(ids, "V32") == np.void(self._zero_id)] = self.chunk  # written where it is missing
        whole = size // self.chunk
        if (sizes[:whole] != self.chunk).any() or sizes.sum() != size:
            return 0
        keep = self._count if size == self._source.size else min(whole, self._source.size // self.chunk)
        grid[:keep] = np.frombuffer(ids, np.uint8).reshape(-1, 32)[:keep]
        return keep

    def _regular(self, content: bytes) -> bytes:
        """The inverse of `_sparse_content`: one id per chunk."""
        at = content.find(_SPARSE_ID)
        while at % 32 and at >= 0:
            at = content.find(_SPARSE_ID, at + 1)
        if at < 0:
            return content
        blobs = max(self.chunk // _SPARSE, 1)
        return content[:at] + self._zero_id * max(_SPARSE // self.chunk, 1) + content[at + 32 * blobs :]
