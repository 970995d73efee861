"""A vendor's plugin, a package of its own: installed beside the service, found by it, and proved where it stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "karbor-git"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example installed into a folder of its own; the environment that finds it there."""
    place = tmp_path_factory.mktemp("vendor")
    source = place / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv is needed: make setup"
    command = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--python",
        sys.executable,
        "--target",
        str(place / "lib"),
        str(source),
    ]
    done = subprocess.run([*command, "--offline"], capture_output=True, text=True, check=False)
    if done.returncode:  # its build tool is not in the cache
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(place / "lib")}


def run(environment, *words: str) -> str:
    done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_loads_as_the_services_own_plugins_do(installed) -> None:
    script = (
        "from karbor.sdk.loading import PROTECTABLES, PROTECTIONS, load\n"
        "for group in (PROTECTABLES, PROTECTIONS):\n"
        "    found = load(group)\n"
        "    assert not found.problems, found.problems\n"
        "    print(*found.plugins)\n"
    )
    said = run(installed, sys.executable, "-c", script)
    assert "Example::Git::Repository" in said
    assert "example-git-plugin" in said
    assert "karbor-host-directory-plugin" in said


def test_its_vendor_proves_it_where_it_stands(installed) -> None:
    karbor = str(Path(sys.executable).with_name("karbor"))
    said = run(installed, karbor, "plugin", "test", "karbor_git.contract:GitContract", "-f", "value", "-c", "result")
    assert said.split() == ["passed"] * 10
