"""Where two restores would write to one place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from karbor.domain.operation import IN_PROGRESS, Restore


def restore(*places: str) -> Restore:
    return Restore(
        id="r",
        project_id="p",
        provider_id="v",
        checkpoint_id="c",
        parameters={},
        status=IN_PROGRESS,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        places=places,
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        (("/srv/a",), ("/srv/b", "/srv/a"), "/srv/a"),
        (("/srv/a/deep/down",), ("/srv/a",), "/srv/a"),
        (("/srv/a",), ("/srv/a/deep",), "/srv/a/deep"),
        (("/srv/a",), ("/srv/ab", "/sr"), ""),
        (("/srv/a",), (), ""),
        ((), ("/srv/a",), ""),
    ],
)
def test_restores_meet_at_a_place_above_or_below_too(mine, theirs, shared):
    assert restore(*mine).meets(restore(*theirs)) == shared
