"""Runs from request to ending, over a real database and a real repository: every ending leaves nothing behind."""

from __future__ import annotations

import pytest
from tests.ledger import PROVIDER, THING

from karbor.domain.checkpoint import Checkpoint
from karbor.domain.operation import OperationLog, Restore, Verification
from karbor.errors import Conflict, InvalidInput, NotFound, Refused, UnsupportedOperation
from karbor.protection.catalogue import Query

from .conftest import CALLER


def log_of(running, operation: str) -> OperationLog:
    found = running.app.catalogue.list(OperationLog, Query(scope=CALLER.project_id))
    return next(log for log in found if log.operation_type == operation)


def restore(running, checkpoint, **more):
    arguments = {"provider_id": PROVIDER, "checkpoint_id": checkpoint.id, "parameters": {}, **more}
    begun = running.service.restore(CALLER, **arguments)
    return running.wait(lambda: running.app.catalogue.get(Restore, CALLER.project_id, begun.id))


def verify(running, checkpoint):
    begun = running.service.verify(CALLER, provider_id=PROVIDER, checkpoint_id=checkpoint.id, parameters={})
    return running.wait(lambda: running.app.catalogue.get(Verification, CALLER.project_id, begun.id))


def test_protect_verify_restore_delete(running) -> None:
    running.world.thing("disk")
    server = running.world.thing("server", needs=["disk"])
    checkpoint = running.protect(server)
    assert checkpoint.status == "available", checkpoint.reason
    assert {state.key for state in checkpoint.states} == {f"{THING}#disk", f"{THING}#server"}
    assert checkpoint.verify_level == "structure"
    assert running.world.count("temporary") == 0
    assert running.world.count("snapshot") == 2

    assert verify(running, checkpoint).status == "success"
    assert running.service.checkpoint(CALLER, PROVIDER, checkpoint.id).verify_level == "data"

    done = restore(running, checkpoint)
    assert done.status == "success"
    assert set(done.restored) == {f"{THING}#disk", f"{THING}#server"}
    assert set(done.resources_status) == set(done.restored.values())
    assert running.world.count("restored") == 2

    running.service.delete_checkpoint(CALLER, PROVIDER, checkpoint.id)
    deleted = running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, checkpoint.id))
    assert deleted.status == "deleted"
    assert running.world.count("snapshot") == 0
    repository = running.app.vaults.open(running.app.providers.get(PROVIDER), CALLER.project_id)
    assert list(repository.snapshots()) == []
    assert [log_of(running, each).status for each in ("protect", "verify", "restore", "delete")] == [
        "available",
        "success",
        "success",
        "deleted",
    ]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("fail", "thing bad: the disk has a bad sector (replace it)"),
        ("raise", "ZeroDivisionError: oops"),
        ("hang", "the backup was not over after 0 seconds"),
    ],
)
def test_one_bad_resource_fails_the_checkpoint_with_its_reason_and_is_undone(running, mode: str, reason: str) -> None:
    good = running.world.thing("good")
    bad = running.world.thing("bad", protect=mode)
    checkpoint = running.protect(good, bad)
    assert checkpoint.status == "error"
    states = {state.key: state for state in checkpoint.states}
    assert reason in states[f"{THING}#bad"].reason
    assert states[f"{THING}#good"].status == "available"
    assert reason.split(": ", 1)[-1] in (log_of(running, "protect").error_info or "")
    assert running.world.count("temporary") == running.world.count("snapshot") == 0
    with pytest.raises(Conflict, match="error, not available"):
        restore(running, checkpoint)
    running.service.delete_checkpoint(CALLER, PROVIDER, checkpoint.id)
    assert running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, checkpoint.id)).status == "deleted"


def test_a_failure_that_passes_is_tried_again(running) -> None:
    checkpoint = running.protect(running.world.thing("a", protect="flaky"))
    assert checkpoint.status == "available"
    assert running.world.count("snapshot") == 1


def test_a_listing_that_fails_fails_the_run_and_never_drops_children(running) -> None:
    server = running.world.thing("server", needs=["disk"])
    running.app.handler  # noqa: B018 - made before the world breaks
    running.world.listing_fails = True
    begun = running.service.protect(CALLER, PROVIDER, running.plan(server).id, {})
    done = running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, begun.id), seconds=120)
    assert done.status == "error"
    assert "cannot be listed" in done.reason


def test_cancel_undoes_what_was_made(running) -> None:
    thing = running.world.thing("a", protect="slow")
    begun = running.service.protect(CALLER, PROVIDER, running.plan(thing).id, {})
    while running.world.count("temporary") == 0:
        pass
    running.service.cancel(CALLER, "checkpoint", begun.id)
    done = running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, begun.id))
    assert done.status == "cancelled"
    assert running.world.count("temporary") == running.world.count("snapshot") == 0
    with pytest.raises(Conflict, match="not being worked on"):
        running.service.cancel(CALLER, "checkpoint", begun.id)


def test_a_failed_restore_is_undone_where_the_caller_asked_for_it(running) -> None:
    checkpoint = running.protect(running.world.thing("a"), running.world.thing("b", restore="fail"))
    kept = restore(running, checkpoint)
    assert kept.status == "fail"
    assert "no room in the new place" in kept.reason
    before = running.world.count("restored")
    assert before == 2
    assert restore(running, checkpoint, undo=True).status == "fail"
    assert running.world.count("restored") == before


def test_a_part_is_restored_with_what_it_needs(running) -> None:
    running.world.thing("disk")
    server = running.world.thing("server", needs=["disk"])
    checkpoint = running.protect(server, running.world.thing("other"))
    done = restore(running, checkpoint, resources=[f"{THING}#server"])
    assert set(done.restored) == {f"{THING}#disk", f"{THING}#server"}


def test_the_pre_flight_refuses_before_anything_is_made(running) -> None:
    checkpoint = running.protect(running.world.thing("a", restore="refuse"))
    with pytest.raises(Refused, match="told to"):
        restore(running, checkpoint)
    assert running.world.count("restored") == 0
    answer = running.service.preflight_restore(CALLER, provider_id=PROVIDER, checkpoint_id=checkpoint.id, parameters={})
    assert [item.action for item in answer.items] == ["refuse"]


def test_two_restores_never_write_to_one_place_at_once(running) -> None:
    checkpoint = running.protect(running.world.thing("a"))
    running.stop.set()
    running.thread.join()
    arguments = {"provider_id": PROVIDER, "checkpoint_id": checkpoint.id, "parameters": {}}
    running.service.restore(CALLER, **arguments)
    with pytest.raises(Conflict, match="is writing to a"):
        running.service.restore(CALLER, **arguments)
    elsewhere = {THING: {"restore_name": "elsewhere"}}
    running.service.restore(CALLER, **{**arguments, "parameters": elsewhere})


def test_what_a_plugin_cannot_do_is_refused_by_name(running) -> None:
    checkpoint = running.protect(running.world.thing("a"))
    running.plugin.__class__.operations = frozenset({"protect"})
    try:
        with pytest.raises(UnsupportedOperation, match="test-ledger cannot verify"):
            verify(running, checkpoint)
        with pytest.raises(UnsupportedOperation, match="test-ledger cannot restore"):
            restore(running, checkpoint)
    finally:
        running.plugin.__class__.operations = frozenset({"protect", "restore", "verify", "delete"})


def test_a_foreign_project_sees_nothing(running) -> None:
    checkpoint = running.protect(running.world.thing("a"))
    stranger = CALLER.__class__(user_id="s", project_id="q" * 32)
    for ask in (
        lambda: running.service.checkpoint(stranger, PROVIDER, checkpoint.id),
        lambda: running.service.delete_checkpoint(stranger, PROVIDER, checkpoint.id),
        lambda: running.service.verify(stranger, provider_id=PROVIDER, checkpoint_id=checkpoint.id, parameters={}),
        lambda: running.service.progress(stranger, "checkpoint", checkpoint.id),
        lambda: running.service.cancel(stranger, "checkpoint", checkpoint.id),
        lambda: running.service.entries(stranger, PROVIDER, checkpoint.id, f"{THING}#a", ""),
        lambda: running.service.reset_checkpoint(stranger, PROVIDER, checkpoint.id, "error"),
    ):
        with pytest.raises(NotFound):
            ask()


def test_reset_to_available_only_where_the_bank_has_it(running) -> None:
    good = running.protect(running.world.thing("a"))
    running.service.reset_checkpoint(CALLER, PROVIDER, good.id, "error")
    running.service.reset_checkpoint(CALLER, PROVIDER, good.id, "available")
    bad = running.protect(running.world.thing("b", protect="fail"))
    with pytest.raises(InvalidInput, match="never committed"):
        running.service.reset_checkpoint(CALLER, PROVIDER, bad.id, "available")


def test_the_second_checkpoint_stores_next_to_nothing(running) -> None:
    thing = running.world.thing("a" * 300)
    plan = running.plan(thing)
    sizes = []
    for _ in range(2):
        begun = running.service.protect(CALLER, PROVIDER, plan.id, {})
        done = running.wait(lambda begun=begun: running.service.checkpoint(CALLER, PROVIDER, begun.id))
        sizes.append(done.states[0].added_bytes)
    assert sizes[1] == 0 < sizes[0]


def test_progress_and_records_end_with_the_run(running) -> None:
    checkpoint = running.protect(running.world.thing("a"))
    progress = running.service.progress(CALLER, "checkpoint", checkpoint.id)
    assert progress.done_steps == progress.total_steps > 0
    record = running.app.catalogue.get(Checkpoint, CALLER.project_id, checkpoint.id)
    assert record.finished_at is not None


def test_what_is_not_whole_is_never_committed(running) -> None:
    """Somebody takes a pack away between the hooks and the commit: an error, no checkpoint, nothing in the bank."""
    thing = running.world.thing("a", protect="slow")
    begun = running.service.protect(CALLER, PROVIDER, running.plan(thing).id, {})
    original = running.app.handler._endings._prepare

    def prepare_and_lose(context):
        done = original(context)
        for pack in running.bank.rglob("data/*/*"):
            pack.unlink()
        return done

    running.app.handler._endings._prepare = prepare_and_lose
    running.world.released.set()
    done = running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, begun.id))
    assert done.status == "error"
    assert "data/" in done.reason
    repository = running.app.vaults.open(running.app.providers.get(PROVIDER), CALLER.project_id)
    assert list(repository.snapshots()) == []


def test_a_delete_that_failed_can_be_asked_for_again(running) -> None:
    checkpoint = running.protect(running.world.thing("a"))
    running.world.deleting_fails = True
    running.service.delete_checkpoint(CALLER, PROVIDER, checkpoint.id)
    failed = running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, checkpoint.id))
    assert failed.status == "error-deleting"
    assert "the snapshot is in use" in failed.reason
    running.world.deleting_fails = False
    running.service.delete_checkpoint(CALLER, PROVIDER, checkpoint.id)
    assert running.wait(lambda: running.service.checkpoint(CALLER, PROVIDER, checkpoint.id)).status == "deleted"
    assert running.world.count("snapshot") == 0
