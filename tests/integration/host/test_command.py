"""Programs as sources and sinks of bytes: ended in time, with their reasons, and with nothing of ours in their hands."""

from __future__ import annotations

import os
import time
from itertools import repeat
from pathlib import Path

import pytest

from karbor.errors import Refused, ResourceFailed, Unavailable
from karbor.plugins.host.command import Program, feed, find_tool, run, secret_file, stream


def shell(words: str, **more) -> Program:
    return Program(arguments=("/bin/sh", "-c", words), **more)


def test_what_a_program_says_comes_back() -> None:
    assert run(shell("echo out; echo err >&2"), deadline=10) == b"out\n"
    assert b"".join(stream(shell("head -c 3000000 /dev/zero"), silence=10)) == bytes(3_000_000)


def test_what_it_is_given_it_gets(tmp_path) -> None:
    feed(shell(f"cat > {tmp_path}/got"), repeat(b"x" * 1000, 3000), silence=10)
    assert (tmp_path / "got").read_bytes() == b"x" * 3_000_000


def test_its_environment_is_made_for_it(monkeypatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "s3cret")
    said = run(shell("env", environment={"MORE": "1"}), deadline=10).decode().split()
    assert {line.partition("=")[0] for line in said} - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LANG", "MORE"}


@pytest.mark.parametrize(
    "use",
    [
        lambda program: run(program, deadline=10),
        lambda program: list(stream(program, silence=10)),
        lambda program: feed(program, [b"x"], silence=10),
    ],
)
def test_a_failure_has_its_last_words(use) -> None:
    with pytest.raises(ResourceFailed, match=r"/bin/sh failed \(exit code 7\): no room"):
        use(shell("cat > /dev/null; echo no room >&2; exit 7"))
    with pytest.raises(ResourceFailed, match=r"the copy failed \(signal 9\): it said nothing"):
        use(shell("cat > /dev/null; kill -9 $$", name="the copy"))
    with pytest.raises(Unavailable, match="come back later"):
        use(shell("cat > /dev/null; echo come back later >&2; exit 1", passing="later$"))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda program: run(program, deadline=1.5), "has not ended within 1.5 s"),
        (lambda program: list(stream(program, silence=1.5)), "has said nothing for 1.5 s"),
        (lambda program: feed(program, repeat(b"x" * 100_000, 100), silence=1.5), "has taken nothing for 1.5 s"),
    ],
)
def test_its_time_is_limited_and_its_children_end_with_it(use, said, tmp_path) -> None:
    began = time.monotonic()
    with pytest.raises(ResourceFailed, match=said.replace(".", r"\.")):
        use(shell(f"sleep 60 & echo $! > {tmp_path}/child; wait"))
    assert time.monotonic() - began < 20
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_stops_listening_has_not_done_its_work() -> None:
    with pytest.raises(ResourceFailed, match="ended before it had taken everything in"):
        feed(shell("exit 0"), repeat(b"x" * 100_000, 100), silence=10)


def test_one_that_does_not_exist_is_named() -> None:
    with pytest.raises(ResourceFailed, match="/nowhere/tool cannot be run: No such file"):
        run(Program(arguments=("/nowhere/tool",)), deadline=1)
    with pytest.raises(Refused, match="karbor-no-such-tool is not installed"):
        find_tool("karbor-no-such-tool", "a-package")


def test_a_reader_that_gives_up_ends_the_program(tmp_path) -> None:
    source = stream(shell(f"echo $$ > {tmp_path}/pid; while :; do echo x; done"), silence=10)
    next(source)
    source.close()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_secret_is_in_no_folder_and_only_for_us() -> None:
    with secret_file("s3cret") as (path, fd):
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
        assert run(Program(arguments=("/bin/cat", path), descriptors=(fd,)), deadline=10) == b"s3cret"
        with pytest.raises(ResourceFailed):
            run(Program(arguments=("/bin/cat", path)), deadline=10)
