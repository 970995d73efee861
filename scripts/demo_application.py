"""The application of the demonstration: files, a disk image and a database under constant writes; and its proof."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
FILES = 3000
IMAGE_BYTES = 256 * MIB

# Runs as a process of its own: every transaction adds an order and keeps the total in another table in step.
WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
while True:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO orders (item, note) VALUES ('chair', hex(randomblob(200)))")
    db.execute("UPDATE totals SET orders = orders + 1")
    db.execute("COMMIT")
    print(db.execute("SELECT orders FROM totals").fetchone()[0], flush=True)
    time.sleep(0.002)
"""


class Shop:
    """Three layers under one folder: `web`, `disk`, `db`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.web, self.image, self.database = root / "web", root / "disk" / "volume.img", root / "db" / "orders.sqlite"

    def build(self) -> None:
        dice = random.Random(7)
        for number in range(FILES):
            page = self.web / f"section{number % 40:02d}" / f"page{number:04d}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_bytes(b"<p>%d</p>\n" % number + dice.randbytes(dice.randrange(16_000)))
            page.chmod(dice.choice((0o644, 0o600, 0o755)))
            os.utime(page, ns=(dice.randrange(10**18, 2 * 10**18), dice.randrange(10**18, 2 * 10**18)))
        self._oddities()
        self.image.parent.mkdir(parents=True)
        with self.image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
            for place in range(0, IMAGE_BYTES, 2 * MIB):  # every other MiB stays a hole
                image.seek(place)
                image.write(dice.randbytes(MIB // 2) + bytes(4096) + b"text " * 100_000)
        self.database.parent.mkdir()
        with sqlite3.connect(self.database) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, note TEXT)")
            database.execute("CREATE TABLE totals (orders INTEGER)")
            database.execute("INSERT INTO totals VALUES (0)")
        database.close()

    def _oddities(self) -> None:
        """What copies tend to lose."""
        odd = self.web / "odd"
        odd.mkdir(mode=0o750)
        (odd / "empty").touch()
        (odd / "link").symlink_to("../section00/page0000.html")
        (odd / "dangling").symlink_to("/no/such/place")
        (odd / "twin").hardlink_to(self.web / "section01" / "page0001.html")
        Path(os.fsdecode(os.fsencode(odd) + b'/bytes \xff\n"\\')).write_text("a name of any bytes")
        with (odd / "sparse").open("wb") as sparse:
            sparse.truncate(8 * MIB)
            sparse.seek(4 * MIB)
            sparse.write(b"in the middle")
        os.setxattr(odd / "empty", "user.comment", b"kept")
        os.utime(odd, ns=(10**18 + 1, 10**18 + 123_456_789))

    def declaration(self) -> str:
        return (
            "name: shop\n"
            f"restore_roots: [{self.root.parent}]\n"
            "members:\n"
            f"- {{kind: directory, path: {self.web}, layer: web}}\n"
            f"- {{kind: disk image, path: {self.image}, layer: application}}\n"
            f"- {{kind: sqlite, path: {self.database}, layer: database}}\n"
        )

    def destroy(self) -> None:
        """Change some of it, then delete all."""
        (self.web / "section00" / "page0000.html").write_text("defaced")
        for part in (self.web, self.image.parent, self.database.parent):
            for child in part.iterdir():
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()

    def assemble(self, restored: Path, target: Path) -> None:
        """Lay out what restic restored, folder by type and id, as the application was."""
        types = {path.name: path for path in restored.iterdir() if path.is_dir()}
        (data,) = types["Karbor::Host::Directory"].glob("*/data")
        target.mkdir()
        shutil.move(data, target / "web")
        for kind, place in (("Karbor::Host::DiskImage", self.image), ("Karbor::Host::Database", self.database)):
            (data,) = types[kind].glob("*/data")
            (target / place.parent.name).mkdir()
            shutil.move(data, target / place.parent.name / place.name)
        shutil.copystat(self.root, target)

    def check_database(self, path: Path) -> int:
        """How many orders there are; raises where the database is not whole and of one moment."""
        database = sqlite3.connect(path)
        try:
            (sound,) = database.execute("PRAGMA integrity_check").fetchone()
            (orders,) = database.execute("SELECT count(*) FROM orders").fetchone()
            (total,) = database.execute("SELECT orders FROM totals").fetchone()
        finally:
            database.close()
        if sound != "ok" or orders != total:
            raise OSError(f"the database is not whole: {sound}, {orders} orders, a total of {total}")
        return int(orders)


class Writer:
    """The process that writes to the database all the time."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", WRITER, self.database], stdout=subprocess.DEVNULL)

    def committed(self) -> int:
        database = sqlite3.connect(self.database, timeout=60)
        try:
            (orders,) = database.execute("SELECT orders FROM totals").fetchone()
        finally:
            database.close()
        return int(orders)

    def ensure_alive(self) -> None:
        if self.process is None or self.process.poll() is not None:
            raise OSError("the writer ended: protecting must not disturb the application")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def fingerprint(root: Path, leave_out: set[Path]) -> dict[str, tuple[object, ...]]:
    """Everything that a restore must bring back, by relative path: kind, mode, owner, time, content, holes, links."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[tuple[int, int], str] = {}
    for folder, names, files in os.walk(os.fsencode(root)):
        names[:] = sorted(name for name in names if Path(os.fsdecode(os.path.join(folder, name))) not in leave_out)
        at_top = folder == os.fsencode(root)
        for name in [*names, *sorted(files)]:
            if at_top and name != b"web":  # the folders of single files are not what is protected
                continue
            path = os.path.join(folder, name)
            relative = os.fsdecode(os.path.relpath(path, os.fsencode(root)))
            found[relative] = _entry(path, relative, inodes)
    return found


def fingerprint_without_holes(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """The same without what says whether the image has holes."""
    return {name: entry[:-1] if name.startswith("disk") else entry for name, entry in found.items()}


def _entry(path: bytes, relative: str, inodes: dict[tuple[int, int], str]) -> tuple[object, ...]:
    status = os.lstat(path)
    common = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode))
    if relative.startswith("disk"):  # of an image the bytes and the holes are protected
        return (*_content(path), status.st_blocks * 512 < status.st_size)
    if stat.S_ISLNK(status.st_mode):
        return (*common, os.readlink(path))
    attributes = {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}
    if stat.S_ISDIR(status.st_mode):
        return (*common, status.st_mtime_ns, attributes)
    twin = inodes.setdefault((status.st_dev, status.st_ino), relative)
    return (*common, status.st_mtime_ns, *_content(path), attributes, twin)


def _content(path: bytes) -> tuple[int, str]:
    with open(path, "rb") as file:
        return os.path.getsize(path), hashlib.file_digest(file, "sha256").hexdigest()


def difference(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> list[str]:
    """What is not the same, one line each."""
    lost = [f"{name!r} is missing" for name in before if name not in after]
    new = [f"{name!r} was not there" for name in after if name not in before]
    other = [
        f"{name!r}: {before[name]} became {after[name]}"
        for name in before
        if name in after and before[name] != after[name]
    ]
    return lost + new + other
