"""A program of its own: copies a SQLite database as it is at one moment. Run by `karbor.plugins.host.sqlite`.

A process of its own, because a POSIX lock is lost when any thread of its process closes any descriptor of the file,
and a worker may read the same file as part of a directory (https://sqlite.org/howtocorrupt.html, section 2.2).
It has nothing else open, so it can also tell which file SQLite opened: SQLite opens by path and follows links.

    sqlite_copy.py SOURCE DESTINATION DEVICE INODE

Prints ``done total`` in bytes as it goes. Ends with 1 and the reason on standard error.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from urllib.parse import quote

_PAGES = 4096
"""Pages copied between two reports."""
_BUSY_SECONDS = 30.0


def copy(source_path: str, target_path: str, device: int, inode: int) -> None:
    """Copy inside one read transaction, which keeps writers from starting the copy anew; then check the copy."""
    where = f"file:{quote(source_path)}?mode=ro"
    source = sqlite3.connect(where, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (device, inode) not in _open_files():
        raise OSError(f"{source_path} was replaced while it was opened")
    target = sqlite3.connect(target_path, isolation_level=None)
    page = source.execute("PRAGMA page_size").fetchone()[0]

    def report(_status: int, remaining: int, total: int) -> None:
        print((total - remaining) * page, total * page, flush=True)  # noqa: T201 - this is what the program says

    source.backup(target, pages=_PAGES, progress=report)
    source.close()
    (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    target.close()
    if found != "ok":
        raise sqlite3.DatabaseError(f"the database is damaged: {found}")


def _open_files() -> set[tuple[int, int]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # the descriptor of this listing
        found.add((status.st_dev, status.st_ino))
    return found


if __name__ == "__main__":
    try:
        copy(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"{error}")
