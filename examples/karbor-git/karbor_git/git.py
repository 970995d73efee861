"""Runs git without the configuration, hooks and prompts of whoever the service runs as."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from karbor.errors import ResourceFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPTIONS = ("-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null")
_ENVIRONMENT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
_SECONDS = 3600


def run(*arguments: str, within: Path) -> str:
    """What git says; raises `ResourceFailed` with its reason where it fails."""
    done = subprocess.run(
        ["git", *_OPTIONS, *arguments],
        cwd=within,
        env=_environment(),
        capture_output=True,
        check=False,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise ResourceFailed(f"git {arguments[0]}: {_last_line(done.stderr)}")
    return done.stdout.decode()


def stream(*arguments: str, within: Path) -> Iterator[bytes]:
    """What git writes, as it comes; raises `ResourceFailed` at the end where it failed."""
    with subprocess.Popen(
        ["git", *_OPTIONS, *arguments],
        cwd=within,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdout is not None
        while chunk := child.stdout.read(1 << 20):
            yield chunk
    if child.returncode:
        raise ResourceFailed(f"git {arguments[0]} failed with exit code {child.returncode}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT}


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
