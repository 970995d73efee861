"""One server process per session, and the data files as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def port(tmp_path_factory):
    state = tmp_path_factory.mktemp("wire")
    state.chmod(0o700)
    with (state / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, HERE / "server.py", state], stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        line = process.stdout.readline()
        assert line.startswith("ready "), (state / "log").read_text()
        yield int(line.split()[1])
        process.terminate()
    problems = [line for line in (state / "log").read_text().splitlines() if "unexpected error" in line]
    assert problems == []
