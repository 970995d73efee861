"""Runs programs of this host: the administrator's commands, and database tools as sources and sinks of bytes.

Arguments are lists, no shell reads them; the environment is made here; each program is a process group of its own,
so that a deadline ends all of it. Secrets travel in a file that lives in memory only, never in an argument.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

import msgspec

from karbor.errors import Refused, ResourceFailed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_READ = 1 << 20
_SAID = 400
"""How many characters of what a program said are shown."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run: arguments, its own environment variables, and descriptors it inherits."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    descriptors: tuple[int, ...] = ()
    name: str = ""
    """What it does, for errors; else its path is named."""
    passing: str = ""
    """A regular expression of what it says when it fails for a reason that may pass."""

    @property
    def called(self) -> str:
        """Its name for people."""
        return self.name or self.arguments[0]


def find_tool(name: str, package: str) -> str:
    """The path of a program; `Refused` naming the Debian package where it is not installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise Refused(f"{name} is not installed", hint=f"install {package}")
    return found


@contextlib.contextmanager
def secret_file(text: str) -> Iterator[tuple[str, int]]:
    """A file (0600) in memory: its path as a program that inherits the descriptor sees it, and the descriptor."""
    fd = os.memfd_create("karbor", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, text.encode())
        yield f"/proc/self/fd/{fd}", fd
    finally:
        os.close(fd)


def run(program: Program, *, deadline: float) -> bytes:
    """Run a program to its end; returns what it wrote to standard output.

    Raises `ResourceFailed` with its last words where it fails or has not ended after `deadline` seconds,
    `Unavailable` where it fails for a reason that may pass.
    """
    with (
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as out,
        _started(program, said, stdout=out) as child,
    ):
        try:
            child.wait(deadline)
        except subprocess.TimeoutExpired as error:
            raise ResourceFailed(f"{program.called} has not ended within {deadline:g} s and was ended") from error
        _check(program, child, said)
        out.seek(0)
        return out.read()


def stream(program: Program, *, silence: float) -> Iterator[bytes]:
    """What a program writes to standard output, as it comes.

    Raises as `run` does at the end where it failed, or after `silence` seconds without a byte.
    """
    with tempfile.TemporaryFile() as said, _started(program, said, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(child.stdout, selectors.EVENT_READ)
            while chunk := _awaited(ready, child.stdout.fileno(), program, silence):
                yield chunk
        _end(program, child, said, silence)


def _awaited(ready: selectors.BaseSelector, fd: int, program: Program, silence: float) -> bytes:
    if not ready.select(silence):
        raise ResourceFailed(f"{program.called} has said nothing for {silence:g} s and was ended")
    return os.read(fd, _READ)


def feed(program: Program, chunks: Iterable[bytes], *, silence: float) -> None:
    """Give `chunks` to a program's standard input and wait for its end.

    Raises as `run` does where it fails or takes nothing for `silence` seconds.
    """
    with tempfile.TemporaryFile() as said, _started(program, said, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        fd = child.stdin.fileno()
        os.set_blocking(fd, False)
        taken = False
        with selectors.DefaultSelector() as ready, contextlib.suppress(BrokenPipeError):
            ready.register(fd, selectors.EVENT_WRITE)
            for chunk in chunks:
                _give(ready, fd, chunk, program, silence)
            taken = True
        child.stdin.close()
        _end(program, child, said, silence)
        if not taken:
            raise ResourceFailed(f"{program.called} ended before it had taken everything in")


def _give(ready: selectors.BaseSelector, fd: int, chunk: bytes, program: Program, silence: float) -> None:
    view = memoryview(chunk)
    while view:
        if not ready.select(silence):
            raise ResourceFailed(f"{program.called} has taken nothing for {silence:g} s and was ended")
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _started(
    program: Program, said: IO[bytes], *, stdin: int = subprocess.DEVNULL, stdout: int | IO[bytes] = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """The running program; whatever is left of it is killed at the end."""
    try:
        child = subprocess.Popen(
            program.arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=said,
            env={"PATH": _PATH, "LANG": "C.UTF-8", **program.environment},
            cwd="/",
            pass_fds=program.descriptors,
            start_new_session=True,
        )
    except OSError as error:
        raise ResourceFailed(f"{program.called} cannot be run: {error.strerror}") from error
    try:
        yield child
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()


def _end(program: Program, child: subprocess.Popen[bytes], said: IO[bytes], deadline: float) -> None:
    try:
        child.wait(deadline)
    except subprocess.TimeoutExpired as error:
        raise ResourceFailed(f"{program.called} does not end and was ended") from error
    _check(program, child, said)


def _check(program: Program, child: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    if child.returncode == 0:
        return
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - 4 * _SAID))
    words = " ".join(said.read().decode("utf-8", "replace").split())[-_SAID:]
    how = f"exit code {child.returncode}" if child.returncode > 0 else f"signal {-child.returncode}"
    may_pass = bool(program.passing) and re.search(program.passing, words) is not None
    raise (Unavailable if may_pass else ResourceFailed)(
        f"{program.called} failed ({how}): {words or 'it said nothing'}"
    )
