"""The fake `op` that vendors test with: it must be as strict as the engine's."""

from __future__ import annotations

import pytest

from karbor.domain.resource import VOLUME, Resource
from karbor.errors import Cancelled, PluginError, ResourceFailed
from karbor.sdk.contract.op import FakeOp, Journal, Stage, perform
from karbor.sdk.contract.vault import MemoryVault

DISK = Resource(type=VOLUME, id="6e1d4a0c-6c3f-4f57-8f63-3d1f2b8a9f10", name="disk")


@pytest.fixture
def stage(tmp_path):
    return Stage(resource=DISK, operation="protect", vault=MemoryVault(), scratch_root=tmp_path)


class Cloud:
    """Makes things with tags, and finds them again."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def make(self, tag: str) -> str:
        self.made.append(tag)
        return tag

    def find(self, tag: str) -> str | None:
        return tag if tag in self.made else None


def test_once_makes_one_thing_wherever_the_worker_dies(stage) -> None:
    def crashed_at(place: int) -> bool:
        cloud, seen = Cloud(), []
        hook = lambda op: seen.append(op.once("b", cloud.make, cloud.find))  # noqa: E731
        crashed = perform(hook, stage, Journal(), crash_at=place)
        assert (len(cloud.made), seen[-1]) == (1, cloud.made[0])
        return crashed

    # After the intent, after the making, after the record; there is no fourth place.
    assert [crashed_at(place) for place in range(4)] == [True, True, True, False]


def test_what_once_made_is_known_to_later_hooks(stage) -> None:
    journal, cloud = Journal(), Cloud()
    assert FakeOp(stage, journal).made("b") is None
    perform(lambda op: op.once("b", cloud.make, cloud.find), stage, journal)
    assert FakeOp(stage, journal).made("b") == cloud.made[0]


@pytest.mark.parametrize(
    "twice",
    [
        lambda op: op.once("n", str, lambda _tag: None),
        lambda op: op.read("n", lambda: 1),
        lambda op: op.poll(lambda: 1, every=1, deadline=1, name="n"),
        lambda op: op.defer("n", lambda: None),
    ],
)
def test_a_name_used_twice_is_an_error(stage, twice) -> None:
    def hook(op) -> None:
        twice(op)
        twice(op)

    with pytest.raises(PluginError, match="used twice"):
        perform(hook, stage, Journal())


def test_a_read_decides_the_same_branch_again(stage) -> None:
    answers = iter([1, 2])
    journal = Journal()
    seen = []
    assert perform(lambda op: seen.append(op.read("n", lambda: next(answers))), stage, journal, crash_at=1)
    assert seen == [1]


def test_a_poll_leaves_the_hook_and_lets_time_pass(stage) -> None:
    begun, deferred = [], []

    def hook(op) -> None:
        begun.append(op.clock.monotonic())
        op.defer("d", lambda: deferred.append(1))
        op.poll(lambda: True if op.clock.monotonic() >= 25 else None, every=10, deadline=60)
        op.poll(op.clock.monotonic, every=1, deadline=1, name="second")

    perform(hook, stage, Journal())
    assert begun == [0, 10, 20, 30]
    assert deferred == [1]  # at the end, not at each poll


def test_a_poll_ends_at_its_deadline(stage) -> None:
    with pytest.raises(ResourceFailed, match="poll was not over after 5 seconds"):
        perform(lambda op: op.poll(lambda: None, every=2, deadline=5), stage, Journal())
    assert stage.clock.monotonic() == 6


def test_ensure_insists_on_the_state(stage) -> None:
    with pytest.raises(ResourceFailed, match="has not come about"):
        perform(lambda op: op.ensure(lambda: False, lambda: None), stage, Journal())


def test_what_was_deferred_runs_after_a_failure_too(stage) -> None:
    undone = []

    def hook(op) -> None:
        op.defer("first", lambda: undone.append("first"))
        op.defer("second", lambda: undone.append("second"))
        raise ResourceFailed("no")

    with pytest.raises(ResourceFailed):
        perform(hook, stage, Journal())
    assert undone == ["second", "first"]


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x" * 3, {1: "one"}, float("nan")])
def test_what_does_not_survive_json_is_an_error(stage, value) -> None:
    with pytest.raises(PluginError, match="JSON"):
        perform(lambda op: op.read("n", lambda: value), stage, Journal())


def test_a_document_has_its_limits(stage) -> None:
    with pytest.raises(PluginError, match="at most 1048576"):
        perform(lambda op: op.save({"x": "x" * (1 << 20)}), stage, Journal())
    with pytest.raises(PluginError, match="'tape' is none of"):
        perform(lambda op: op.save({}, location="tape"), stage, Journal())


@pytest.mark.parametrize(("done", "total"), [(2, 1), (-1, 5), (0, -1)])
def test_progress_goes_forward(stage, done, total) -> None:
    with pytest.raises(PluginError, match="no progress"):
        perform(lambda op: op.progress(done, total), stage, Journal())


def test_a_cancelled_hook_begins_nothing_new(stage) -> None:
    journal, cloud = Journal(), Cloud()
    journal.cancelled = True
    for act in (
        lambda op: op.once("b", cloud.make, cloud.find),
        lambda op: op.read("n", lambda: 1),
        lambda op: op.progress(0, 1),
        lambda op: op.ensure(lambda: False, lambda: None),
    ):
        with pytest.raises(Cancelled):
            perform(act, stage, journal)
    assert cloud.made == []


def test_scratch_does_not_survive_a_replay(stage, tmp_path) -> None:
    seen = []

    def hook(op) -> None:
        seen.append(list(op.scratch.iterdir()))
        (op.scratch / "x").write_text("x")
        op.read("n", lambda: 1)

    assert perform(hook, stage, Journal(), crash_at=0)
    assert seen == [[], []]
    assert list(tmp_path.iterdir()) == []
