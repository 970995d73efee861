"""The operation schedule service as the API calls it: triggers and scheduled operations, checked and stored.

Every method takes the caller and changes only what is his project's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from karbor.domain.plan import Plan
from karbor.domain.schedule import OPERATION_TYPES, ScheduledOperation
from karbor.domain.trigger import TIME, Trigger, check_properties, preview, stored
from karbor.errors import InUse, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from karbor.domain.clock import Clock, Randomness
    from karbor.domain.context import Caller
    from karbor.domain.trigger import TriggerLimits
    from karbor.protection.catalogue import Catalogue
    from karbor.protection.delegation import Delegations
    from karbor.providers import Providers


class ScheduleService:
    """What can be asked for. Reading is done through `catalogue`, with the caller's scope."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        providers: Providers,
        delegations: Delegations,
        limits: TriggerLimits,
        clock: Clock,
        random: Randomness,
    ) -> None:
        self.catalogue = catalogue
        self._providers, self._delegations, self._limits = providers, delegations, limits
        self._clock, self._random = clock, random

    # --- triggers

    def create_trigger(self, caller: Caller, *, name: str, kind: str, properties: Mapping[str, str]) -> Trigger:
        """Store a trigger; it begins now where it names no start."""
        if kind != TIME:
            raise InvalidInput(f"Invalid trigger type:{kind}", field="trigger_info.type", hint=f"there is: {TIME}")
        now = self._clock.now()
        trigger = Trigger(
            id=self._random.uuid(),
            project_id=caller.project_id,
            name=name,
            properties={"start_time": stored(now), **properties},
            created_at=now,
        )
        check_properties(trigger.properties, self._limits, now)
        self.catalogue.transact(lambda tx: self.catalogue.insert(tx, trigger))
        return trigger

    def update_trigger(
        self, caller: Caller, trigger_id: str, *, name: str | None, properties: Mapping[str, str]
    ) -> Trigger:
        """Change a trigger. Properties replace the whole set, and none change nothing; how a pattern is read stays
        where the new ones do not say it.
        """
        now = self._clock.now()

        def work(tx: Any) -> Trigger:
            trigger = self.catalogue.get(Trigger, caller.project_id, trigger_id, tx=tx)
            replaced = {"format": trigger.properties["format"], **properties} if properties else trigger.properties
            if properties:
                check_properties(replaced, self._limits, now)
            new = msgspec.structs.replace(trigger, name=trigger.name if name is None else name, properties=replaced)
            self.catalogue.replace(tx, new)
            return new

        return self.catalogue.transact(work)

    def delete_trigger(self, caller: Caller, trigger_id: str) -> None:
        """Remove a trigger that no scheduled operation uses."""

        def work(tx: Any) -> None:
            trigger = self.catalogue.get(Trigger, caller.project_id, trigger_id, tx=tx)
            users = self.catalogue.count(tx, ScheduledOperation, caller.project_id, {"trigger_id": trigger.id})
            if users:
                raise InUse(
                    "Trigger is being used by one or more operations",
                    hint=f"delete the {users} scheduled operations of this trigger first",
                )
            self.catalogue.remove(tx, Trigger, caller.project_id, trigger.id)

        self.catalogue.transact(work)

    def fire_times(self, trigger: Trigger, count: int) -> list[datetime]:
        """The next times of a trigger."""
        return preview(trigger.properties, self._clock.now(), count)

    # --- scheduled operations

    def create_operation(
        self,
        caller: Caller,
        *,
        name: str,
        description: str | None,
        operation_type: str,
        trigger_id: str,
        definition: dict[str, str],
        enabled: bool,
    ) -> ScheduledOperation:
        """Store a standing order; its trigger and plan are the caller's, and the plan can be protected."""
        if operation_type not in OPERATION_TYPES:
            known = ", ".join(OPERATION_TYPES)
            raise InvalidInput(
                f"Invalid operation type: {operation_type}",
                field="scheduled_operation.operation_type",
                hint=f"there are: {known}",
            )
        self.catalogue.get(Trigger, caller.project_id, trigger_id)
        self._check_definition(caller, definition)
        operation = ScheduledOperation(
            id=self._random.uuid(),
            project_id=caller.project_id,
            name=name,
            description=description,
            operation_type=operation_type,
            trigger_id=trigger_id,
            definition=definition,
            caller=caller.remembered(),
            created_at=self._clock.now(),
            enabled=enabled,
            delegation_id=self._delegations.ensure(caller),
        )

        def work(tx: Any) -> None:
            self.catalogue.get(Trigger, caller.project_id, trigger_id, tx=tx)  # locked: it cannot be deleted meanwhile
            self.catalogue.insert(tx, operation)

        self.catalogue.transact(work)
        return operation

    def _check_definition(self, caller: Caller, definition: Mapping[str, str]) -> None:
        plan = self.catalogue.get(Plan, caller.project_id, definition["plan_id"])
        if plan.provider_id != definition["provider_id"]:
            raise InvalidInput(
                "Invalid operation definition, reason:Provider_id is conflict",
                field="scheduled_operation.operation_definition.provider_id",
                hint=f"the plan's provider is {plan.provider_id}",
            )
        self._providers.get(plan.provider_id).check_operation("protect", plan.resources)

    def delete_operation(self, caller: Caller, operation_id: str) -> None:
        """Remove a standing order; the checkpoints that it made stay."""
        self.catalogue.transact(
            lambda tx: self.catalogue.remove(tx, ScheduledOperation, caller.project_id, operation_id)
        )
