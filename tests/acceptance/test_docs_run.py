"""The tutorial, the how-to and the recovery page as a reader follows them: their commands, in one shell, on one real
standalone service; and what each chapter promises, looked at from outside.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.shell_blocks import blocks

DOCS = Path(__file__).parents[2] / "docs"
BIN = Path(sys.executable).parent
STANDALONE = "karbor standalone --state ~/karbor"
SECONDS = 300
pytestmark = pytest.mark.timeout(1200)  # some sixty commands, each a process of its own


class Reader:
    """Follows pages in a home of his own: what one block exports or sets, the next one knows."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.web, self.image = home / "shop/web", home / "shop/disk.img"
        self.database = home / "shop/orders.sqlite"
        self.said = ""
        self.begun = False
        self._service: subprocess.Popen[str] | None = None
        self._variables = home / "variables"
        self._variables.touch()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    def follow(self, page: str, checks: dict) -> None:
        """Run the page's blocks; after the last one of a heading, its check."""
        found = [block for block in blocks(DOCS / page) if {"run", "service"} & set(block.words)]
        missing = set(checks) - {block.heading for block in found}
        assert not missing, f"{page} has no such headings: {missing}"
        for block, following in zip(found, [*found[1:], None], strict=True):
            place = f"{block.page}:{block.line}"
            if "service" in block.words:
                assert block.text.strip() == STANDALONE
                self.begun = True
            else:
                self.stop() if "stopped" in block.words else self.start()
                self.run(block.text, place)
            if (following is None or following.heading != block.heading) and block.heading in checks:
                checks[block.heading](self)

    def run(self, text: str, place: str) -> None:
        script = f"set -ae; . {self._variables}; {{\n{text}}}\nexport -p > {self._variables}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.home,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{place}: {done.returncode}\n{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, place
        self.said = done.stdout

    def start(self) -> None:
        """The service, if a page has begun it, at a port of its own; until it says that it is ready."""
        if not self.begun or self._service is not None:
            return
        with (self.home / "service.log").open("a") as log:
            self._service = subprocess.Popen(
                ["bash", "-c", f"exec {STANDALONE} --port {self._port}"],
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        ready, _, _ = select.select([self._service.stdout], [], [], SECONDS)
        assert ready, "the service did not say ready"
        assert self._service.stdout.readline().startswith("ready http://127.0.0.1:")

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._service is not None:
            self._service.send_signal(signal.SIGINT)
            assert self._service.wait(60) == 0
            self._service.stdout.close()
            self._service = None

    def _environment(self) -> dict[str, str]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "COLUMNS": "200"}

    def orders(self, path: Path | None = None) -> tuple[str, int]:
        with sqlite3.connect(path or self.database) as db:
            whole, count = db.execute("PRAGMA integrity_check").fetchone(), db.execute("SELECT count(*) FROM orders")
            found = whole[0], count.fetchone()[0]
        db.close()
        return found

    def state_of_site(self) -> dict[str, tuple]:
        """Names, modes, times and content of the web site; what links name."""
        return {
            path.name: (
                path.lstat().st_mode,
                path.lstat().st_mtime_ns,
                path.readlink() if path.is_symlink() else path.read_bytes(),
            )
            for path in sorted(self.web.iterdir())
        }


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    found = Reader(tmp_path_factory.mktemp("home"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def taught(reader):
    """The reader after the tutorial."""
    seen = {}

    def made(reader: Reader) -> None:
        seen["site"], seen["image"] = reader.state_of_site(), reader.image.read_bytes()
        assert reader.orders() == ("ok", 1000)

    def verified(reader: Reader) -> None:
        assert " data " in reader.said

    def protected_again(reader: Reader) -> None:
        assert reader.said.count(" available ") == 2

    def lost(reader: Reader) -> None:
        assert not reader.web.exists()
        assert not reader.image.exists()
        assert reader.database.read_text() == "nonsense\n"

    def restored(reader: Reader) -> None:
        assert reader.state_of_site() == seen["site"]
        assert reader.image.read_bytes() == seen["image"]
        assert reader.image.stat().st_blocks * 512 < 8 << 20, "the holes of the image came back as zeros"
        assert reader.orders() == ("ok", 1000)

    def proved(reader: Reader) -> None:
        assert "600 " in reader.said
        assert "ok 1000" in reader.said
        assert "restore" in reader.said

    reader.follow(
        "tutorial.md",
        {
            "Make something to lose": made,
            "Verify it": verified,
            "Change a little, and protect it again": protected_again,
            "Lose it": lost,
            "Restore it": restored,
            "Prove it": proved,
        },
    )
    return reader


def test_the_tutorial_brings_everything_back(taught):
    assert taught.orders() == ("ok", 1000)


def test_the_how_to_does_what_it_says(taught):
    def one_file(reader: Reader) -> None:
        assert (reader.home / "page-2.html").read_text() == "<p>page 2</p>\n"
        assert (reader.web / "page-3.html").read_text() == "<p>page 3</p>\n"

    def elsewhere(reader: Reader) -> None:
        place = reader.home / "restored/shop"
        assert (place / "web/page-1.html").read_text() == "<p>page 1</p>\n"
        assert (place / "disk.img").read_bytes() == reader.image.read_bytes()
        assert reader.orders(place / "orders.sqlite") == ("ok", 1000)

    def excluded(reader: Reader) -> None:
        assert "page-1.html" in reader.said
        assert "draft.tmp" not in reader.said
        assert "cache" not in reader.said

    def rested(reader: Reader) -> None:
        (pause, first), (resume, second) = (line.split() for line in reader.said.splitlines())
        assert (pause, resume) == ("pause", "resume")
        assert first == second

    def deleted(reader: Reader) -> None:
        assert reader.said.count(" available ") == 3

    def key_checked(reader: Reader) -> None:
        assert "opens" in reader.said

    def recovered(reader: Reader) -> None:
        assert reader.said.count(" available ") == 3

    taught.follow(
        "how-to.md",
        {
            "Bring one file back": one_file,
            "Restore to another place": elsewhere,
            "Leave things out": excluded,
            "Bring an application to rest": rested,
            "Delete a checkpoint": deleted,
            "Keep the root key on paper": key_checked,
            "Recover after the database is lost": recovered,
        },
    )


def test_plain_restic_recovers_the_application(taught):
    def found(reader: Reader) -> None:
        assert "checkpoint_id" in reader.said

    def restored(reader: Reader) -> None:
        place = reader.home / "shop-from-restic"
        for page in [f"page-{n}.html" for n in range(1, 6)]:
            was, now = (folder / page for folder in (reader.web, place / "web"))
            assert now.read_bytes() == was.read_bytes()
            assert (now.stat().st_mode, now.stat().st_mtime_ns) == (was.stat().st_mode, was.stat().st_mtime_ns)
        assert (place / "web/index.html").readlink() == Path("page-1.html")
        assert reader.orders(place / "orders.sqlite") == ("ok", 1000)
        for image in (place / "disk.img", reader.home / "disk-from-restic.img"):
            assert image.read_bytes() == reader.image.read_bytes()

    taught.follow("recovery.md", {"After: find": found, "After: restore": restored})
