"""Work shared by a few threads: each takes the next item when it is done with the last, so nothing queues up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class _End:
    """Stands after the last item."""


_END = _End()


def share(items: Iterable[T], work: Callable[[T], None], *, threads: int) -> None:
    """Call `work` with every item, on `threads` threads. The first error ends all of them and is raised."""
    iterator = iter(items)
    lock = Lock()
    errors: list[BaseException] = []

    def take_all() -> None:
        try:
            while not errors:
                with lock:
                    item = next(iterator, _END)
                if isinstance(item, _End):
                    return
                work(item)
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            errors.append(error)

    if threads == 1:
        take_all()
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="vault") as pool:
            for _ in range(threads):
                pool.submit(take_all)
    if errors:
        raise errors[0]


class Tally:
    """Counts bytes done by many threads and tells `progress`, which may raise to stop the transfer."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.done = 0
        self._total, self._progress = total, progress
        self._lock = Lock()

    def add(self, count: int) -> None:
        """`count` more bytes are done."""
        with self._lock:
            self.done += count
            if self._progress is not None:
                self._progress(self.done, self._total)
