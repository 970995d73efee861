"""What a checkpoint survives, which states follow which, and how parameters reach a resource."""

import pytest

from karbor.domain.checkpoint import MOVES, ResourceState, check_move, survives
from karbor.domain.plan import check_parameter_keys, check_resources, parameters_for
from karbor.domain.resource import Resource
from karbor.errors import Conflict, InvalidInput

APART = frozenset({"resource", "project", "back end", "cloud"})


def state(location: str) -> ResourceState:
    return ResourceState(key="T#1", status="available", data_location=location)


@pytest.mark.parametrize(
    ("locations", "bank", "expected"),
    [
        (["bank"], APART, ("resource", "project", "back end", "cloud")),
        (["bank", "cloud snapshot"], APART, ("resource",)),
        (["bank", "cloud backup"], APART, ("resource", "back end")),
        (["bank"], frozenset(), ()),
        (["none", "bank"], frozenset({"resource"}), ("resource",)),
        ([], APART, ("resource", "project", "back end", "cloud")),
    ],
)
def test_survives_what_every_resource_survives(locations: list[str], bank: frozenset, expected: tuple) -> None:
    assert survives([state(location) for location in locations], bank) == expected


def test_a_checkpoint_with_a_failed_resource_cannot_become_available_by_a_move_of_its_own() -> None:
    check_move("c", "protecting", "error")
    with pytest.raises(Conflict, match="cancelled: it cannot become available"):
        check_move("c", "cancelled", "available")
    with pytest.raises(Conflict):
        check_move("c", "nonsense", "available")


def test_no_state_is_a_dead_end_but_deleted_within_its_grace() -> None:
    assert all(MOVES[status] for status in MOVES)
    assert {target for targets in MOVES.values() for target in targets} <= set(MOVES)


def test_the_resource_wins_over_its_type_key_by_key() -> None:
    parameters = {"T": {"a": 1, "b": 1}, "T#1": {"b": 2}, "T#2": {"a": 9}}
    assert parameters_for(parameters, Resource(type="T", id="1")) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ([], "resources"),
        ([Resource(type="X", id="1")], "resources[0].type"),
        ([Resource(type="T", id="1"), Resource(type="T", id="1", name="n")], "resources[1]"),
        ([Resource(type="T", id="1", layer="cellar")], "resources[0].layer"),
    ],
)
def test_a_plan_that_nothing_can_protect_is_refused_by_field(resources: list[Resource], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_resources(resources, {"T"})
    assert caught.value.field == field


@pytest.mark.parametrize("key", ["X", "X#1", "T#", "T#1#2", ""])
def test_a_parameter_key_that_names_nothing_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        check_parameter_keys({key: {}}, {"T"})
