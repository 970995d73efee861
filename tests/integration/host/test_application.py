"""Applications: their commands run in the order of layers, have deadlines, and `after` always runs."""

from __future__ import annotations

import time

import pytest

from karbor.errors import ResourceFailed


@pytest.fixture
def shop(host, tmp_path):
    """Declares the application with a command that writes down its argument; `declare` takes other arguments."""
    log, script = tmp_path / "log", tmp_path / "say"
    script.write_text(
        f'#!/bin/sh\ncase "$1" in\n*fails) echo "no room" >&2; exit 3;;\n*hangs) sleep 60 & wait;;\nesac\n'
        f'echo "$1" >> {log}\necho "$KARBOR_OPERATION $KARBOR_APPLICATION" > {log}.env\n'
    )
    script.chmod(0o755)
    (tmp_path / "www").mkdir()

    def commands(given: dict[str, str]) -> list[dict]:
        return [{"command": [str(script), said], "layer": layer, "deadline": 1.5} for layer, said in given.items()]

    def declare(before: dict[str, str], after: dict[str, str]):
        host.declare(
            {"kind": "directory", "path": str(tmp_path / "www")}, before=commands(before), after=commands(after)
        )
        return lambda: log.read_text().splitlines() if log.exists() else []

    return declare


def test_layers_rest_from_the_web_down_and_go_on_from_the_database_up(host, shop, tmp_path) -> None:
    said = shop(
        {"database": "b3", "": "b0", "web": "b1", "application": "b2"}, {"": "a0", "web": "a1", "database": "a3"}
    )
    host.run("shop", "protect", "prepare_begin")
    assert said() == ["b0", "b1", "b2", "b3"]
    kept = host.protect(str(tmp_path / "www"))
    assert kept.consistency == "application"
    whole = host.run("shop", "protect", "complete")
    assert said()[4:] == ["a3", "a1", "a0"]
    assert (whole.location, whole.consistency, whole.saved["quiesced"]) == ("none", "application", True)
    assert (tmp_path / "log.env").read_text() == "protect shop\n"


def test_without_commands_members_are_as_after_a_power_cut(host, shop, tmp_path) -> None:
    shop({}, {})
    assert host.protect(str(tmp_path / "www")).consistency == "crash"


def test_a_command_that_fails_lets_the_application_go_on_at_once(host, shop) -> None:
    said = shop({"web": "b1", "database": "b3 fails"}, {"web": "a1"})
    with pytest.raises(ResourceFailed, match=r"say failed \(exit code 3\): no room"):
        host.run("shop", "protect", "prepare_begin")
    assert said() == ["b1", "a1"]
    host.run("shop", "protect", "undo")
    assert said() == ["b1", "a1"]


def test_a_command_past_its_deadline_is_ended_with_all_its_children(host, shop) -> None:
    said = shop({"web": "hangs"}, {"web": "a1"})
    started = time.monotonic()
    with pytest.raises(ResourceFailed, match=r"has not ended within 1\.5 s and was ended"):
        host.run("shop", "protect", "prepare_begin")
    assert time.monotonic() - started < 10
    assert said() == ["a1"]


def test_after_runs_in_the_undo_of_a_failed_protect(host, shop) -> None:
    said = shop({"web": "b1"}, {"web": "a1 fails", "database": "a3"})
    host.run("shop", "protect", "prepare_begin")
    with pytest.raises(ResourceFailed, match="no room"):
        host.run("shop", "protect", "undo")
    assert said() == ["b1", "a3"]  # one that fails does not keep the others


def test_nothing_runs_for_a_protect_that_never_began(host, shop) -> None:
    said = shop({"web": "b1"}, {"web": "a1"})
    host.run("shop", "protect", "undo")
    assert said() == []
