"""Two restores never write to one place at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.domain.operation import IN_PROGRESS, Restore
from karbor.errors import Conflict
from karbor.protection.catalogue import Query

if TYPE_CHECKING:
    from karbor.protection.catalogue import Catalogue


def check_places(catalogue: Catalogue, restore: Restore) -> None:
    """Raise `Conflict` where another restore of the project writes to a place of this one."""
    busy = Query(scope=restore.project_id, filters={"status": IN_PROGRESS})
    for other in catalogue.list(Restore, busy):
        if shared := restore.meets(other):
            raise Conflict(f"restore {other.id} is writing to {shared}", hint="wait until it has ended")
