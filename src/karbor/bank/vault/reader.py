"""Reading what was stored: any range, as a stream, as a whole in the order of the packs, or just to prove it."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from karbor.bank.vault.segments import Place
from karbor.bank.vault.workers import Tally, share
from karbor.errors import Damaged, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import numpy.typing as npt

    from karbor.bank.vault.index import Located
    from karbor.bank.vault.nodes import Node
    from karbor.bank.vault.repository import Repository
    from karbor.sdk.vault import ImageTarget

_CACHED = 16 << 20
"""Bytes of decoded blobs that a reader keeps."""
_RUN = 4 << 20
"""Sealed bytes that are fetched at once, about."""
_GAP = 64 << 10
"""Bytes between two wanted blobs that are rather read than skipped."""


class Content:
    """The data blobs that `ids` names, 32 bytes each, one after another: `size` bytes. An `ImageReader`."""

    def __init__(self, repository: Repository, ids: bytes) -> None:
        self._repository = repository
        self.ids = ids
        located = repository.index.locate("data", self.ids)
        if located.missing.size:
            repository.refresh_index()
            located = repository.index.locate("data", self.ids)
        if located.missing.size:
            position = int(located.missing[0])
            raise repository.unknown_blob("data", self.ids[32 * position :][:32])
        self.located: Located = located
        self.sizes = located.plain_sizes
        self.offsets: npt.NDArray[np.int64] = np.concatenate(([0], np.cumsum(self.sizes)))
        self.size = int(self.offsets[-1])
        self._offsets = self.offsets.data
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._lock = Lock()

    @classmethod
    def of(cls, repository: Repository, nodes: Iterable[Node]) -> Content:
        """The content of file nodes, one after another; `Damaged` where their blobs are not of their size."""
        parts = tuple(nodes)
        content = cls(repository, b"".join(node.content for node in parts))
        if content.size != sum(node.size for node in parts):
            names = ", ".join(node.name.decode("utf-8", "replace") for node in parts)
            raise Damaged(
                f"{repository.prefix}index", f"the blobs of {names} have {content.size} bytes, the nodes say otherwise"
            )
        return content

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, number: int) -> bytes:
        """The blob at one position."""
        return self._repository.load("data", self.ids[32 * number : 32 * number + 32])

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; shorter only at the end."""
        end = min(offset + length, self.size)
        parts = []
        while offset < end:
            number = bisect_right(self._offsets, offset) - 1
            start = offset - self._offsets[number]
            parts.append(self._blob(number)[start : start + end - offset])
            offset += len(parts[-1])
        return b"".join(parts)

    def _blob(self, number: int) -> bytes:
        with self._lock:
            if (found := self._cache.get(number)) is not None:
                self._cache.move_to_end(number)
                return found
        data = self.load(number)
        with self._lock:
            if number not in self._cache:
                self._cache[number] = data
                self._cached += len(data)
            while self._cached > _CACHED and len(self._cache) > 1:
                self._cached -= len(self._cache.popitem(last=False)[1])
        return data

    def stream(self, *, threads: int = 2) -> Iterator[bytes]:
        """All blobs in order; the next few are fetched while one is used."""
        pending: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="vault") as pool:
            try:
                for number in range(len(self)):
                    pending.append(pool.submit(self.load, number))
                    if len(pending) > threads:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def blobs(self, use: Callable[[npt.NDArray[np.intp], bytes], None], *, threads: int = 2) -> None:
        """Call `use` with every different blob and the positions it stands at: fetched in the order of the packs, by
        several threads.
        """
        share(self._runs(), lambda run: self._use_run(run, use), threads=threads)

    def _runs(self) -> Iterator[list[npt.NDArray[np.intp]]]:
        """Positions grouped by blob, and blobs that lie near one another in a pack grouped to be fetched at once."""
        table = self.located.table
        order = np.lexsort((table["offset"], table["pack"]))
        keys = table[order][["pack", "offset"]]
        groups = np.split(order, np.flatnonzero(keys[1:] != keys[:-1]) + 1) if len(order) else []
        run: list[npt.NDArray[np.intp]] = []
        start = end = 0
        pack = -1
        for group in groups:
            at, offset, length = (int(table[field][group[0]]) for field in ("pack", "offset", "length"))
            if run and (at != pack or offset > end + _GAP or offset + length - start > _RUN):
                yield run
                run = []
            if not run:
                pack, start = at, offset
            run.append(group)
            end = offset + length
        if run:
            yield run

    def _use_run(self, run: list[npt.NDArray[np.intp]], use: Callable[[npt.NDArray[np.intp], bytes], None]) -> None:
        places = [self._place(group) for group in run]
        start, end = places[0].offset, places[-1].offset + places[-1].length
        try:
            raw = memoryview(
                self._repository.bank.get_range(self._repository.pack_path(places[0].pack), start, end - start)
            )
        except (Damaged, ObjectMissing):
            raw = memoryview(b"")  # `load` looks for another copy, or names the blob's object
        for group, place in zip(run, places, strict=True):
            use(group, self._open(group, place, raw[place.offset - start :][: place.length]))

    def _place(self, group: npt.NDArray[np.intp]) -> Place:
        pack, offset, length, size = self.located.table[group[0]].item()
        return Place(self.located.packs[pack], offset, length, size)

    def _open(self, group: npt.NDArray[np.intp], place: Place, box: memoryview) -> bytes:
        number = int(group[0])
        try:
            return self._repository.open_blob(self.ids[32 * number : 32 * number + 32], place, box)
        except Damaged:
            return self.load(number)

    def restore(
        self, target: ImageTarget, *, threads: int = 2, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Write everything to `target`; blobs of zeros become holes where the target can have them."""
        tally = Tally(self.size, progress)
        zeros = bytes(int(self.sizes.max(initial=0)))

        def write(group: npt.NDArray[np.intp], data: bytes) -> None:
            if not data[0] and data == zeros[: len(data)]:
                for offset, length in self.ranges(np.sort(group)):
                    target.zero(offset, length)
            else:
                for number in group:
                    target.write_at(self._offsets[number], data)
            tally.add(len(data) * len(group))

        self.blobs(write, threads=threads)

    def ranges(self, numbers: npt.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
        """(offset, length) of ascending positions, neighbours joined."""
        for joined in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
            offset = int(self.offsets[joined[0]])
            yield offset, int(self.offsets[joined[-1] + 1]) - offset

    def extents(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what may hold data, ascending; nothing is read: blobs of zeros are known by their name."""
        zero = np.zeros(len(self), bool)
        names = np.frombuffer(self.ids, "V32")
        for size in np.unique(self.sizes):
            if size & (size - 1) == 0:  # chunks of images, and the longest of streams
                zero |= names == np.void(hashlib.sha256(bytes(int(size))).digest())
        data = np.flatnonzero(~zero)
        return self.ranges(data) if data.size else iter(())

    def verify(self, tally: Tally, *, threads: int = 2) -> int:
        """Read back and hash every blob again, counting its bytes in `tally`; how many different ones there are."""
        different = Tally(0, None)

        def count(group: npt.NDArray[np.intp], data: bytes) -> None:
            tally.add(len(data) * len(group))
            different.add(1)

        self.blobs(count, threads=threads)
        return different.done
