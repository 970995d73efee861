"""Deleted checkpoints come back until their grace ends; then they, and what nothing needs, go for good."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.ledger import PROVIDER

from karbor.errors import Conflict
from karbor.protection.upkeep import Report

from .conftest import CALLER

if TYPE_CHECKING:
    from karbor.domain.checkpoint import Checkpoint


def provider_of(running):
    return running.app.providers.get(PROVIDER)


def shown(running, checkpoint) -> Checkpoint:
    return running.service.checkpoint(CALLER, PROVIDER, checkpoint.id)


def deleted(running, checkpoint) -> Checkpoint:
    running.service.delete_checkpoint(CALLER, PROVIDER, checkpoint.id)
    return running.wait(lambda: shown(running, checkpoint))


def until(look, seconds: float = 30.0) -> None:
    for _ in range(int(seconds / 0.1)):
        if look():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about")


def look_after(running) -> Report:
    """One turn of upkeep, now."""
    app = running.app
    before = app.repositories.reported(PROVIDER, CALLER.project_id)
    app.catalogue.transact(lambda tx: app.upkeep._begin(tx, PROVIDER, CALLER.project_id))
    until(lambda: app.repositories.reported(PROVIDER, CALLER.project_id) != before)
    until(lambda: report(running).part)
    return report(running)


def report(running) -> Report:
    return msgspec.json.decode(running.app.repositories.reported(PROVIDER, CALLER.project_id), type=Report)


def test_a_deleted_checkpoint_comes_back_within_its_grace(running) -> None:
    provider_of(running).grace_seconds = 3600.0
    checkpoint = running.protect(running.world.thing("a"))
    gone = deleted(running, checkpoint)
    assert gone.status == "deleted"
    assert gone.snapshot_id
    assert running.world.count("snapshot") == 1, "what lies outside stays until the grace ends"
    running.service.undelete_checkpoint(CALLER, PROVIDER, checkpoint.id)
    until(lambda: shown(running, checkpoint).status == "available")
    begun = running.service.verify(CALLER, provider_id=PROVIDER, checkpoint_id=checkpoint.id, parameters={})
    assert begun.status == "in_progress"


def test_when_the_grace_ends_everything_goes(running) -> None:
    provider_of(running).grace_seconds = 3600.0
    thing = running.world.thing("a")
    checkpoint = deleted(running, running.protect(thing))
    provider_of(running).grace_seconds = 0.0
    look_after(running)
    until(lambda: not shown(running, checkpoint).snapshot_id)
    assert running.world.count("snapshot") == 0
    with pytest.raises(Conflict, match="cannot be brought back"):
        running.service.undelete_checkpoint(CALLER, PROVIDER, checkpoint.id)


def test_prune_frees_what_nothing_needs_and_keeps_the_rest(running) -> None:
    kept = running.protect(running.world.thing("kept"))
    lost = running.protect(running.world.thing("lost" * 5000))
    stored = _stored(running)
    deleted(running, lost)
    first = look_after(running)
    assert first.reclaimable_bytes > 0
    second = look_after(running)
    until(lambda: report(running).deleted_packs > 0)
    assert not second.findings
    assert _stored(running) < stored
    begun = running.service.verify(CALLER, provider_id=PROVIDER, checkpoint_id=kept.id, parameters={})
    from karbor.domain.operation import Verification

    done = running.wait(lambda: running.app.catalogue.get(Verification, CALLER.project_id, begun.id))
    assert done.status == "success", done.reason


def _stored(running) -> int:
    return sum(path.stat().st_size for path in running.bank.rglob("data/*/*"))


def test_upkeep_takes_turns(running) -> None:
    running.protect(running.world.thing("a"))
    until(lambda: report(running).part, 70)
    app = running.app
    assert app.catalogue.transact(lambda tx: app.repositories.take_due(tx, timedelta(days=1), 10)) == []


def test_a_damaged_object_is_told_on_the_checkpoint(running) -> None:
    checkpoint = running.protect(running.world.thing("a" * 2000))
    for pack in running.bank.rglob("data/*/*"):
        raw = bytearray(pack.read_bytes())
        raw[len(raw) // 2] ^= 1
        pack.write_bytes(raw)
    app = running.app
    context_part = (app.clock.now().toordinal() % 30) + 1
    from karbor.bank.vault.check import EVERYTHING, check

    found = check(app.vaults.open(provider_of(running), CALLER.project_id), rotation=EVERYTHING)
    assert not found.clean, context_part

    class Context:
        provider = provider_of(running)
        project_id = CALLER.project_id

    app.catalogue.transact(lambda tx: app.upkeep._warn(tx, Context, found))
    assert any(line.startswith("damaged: ") for line in shown(running, checkpoint).warnings)
