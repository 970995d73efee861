"""The protection service as the API calls it: check, one transaction, answer. The work itself is the workers'.

Every method takes the caller and sees only what is his project's; administrators see what their request's scope says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec

from karbor.bank.checkpoints import load_manifest, resource_tree
from karbor.bank.vault import browse
from karbor.domain import checkpoint as states
from karbor.domain.checkpoint import Checkpoint
from karbor.domain.operation import IN_PROGRESS, OperationLog, Progress, Restore, Verification
from karbor.domain.plan import SUSPENDED, Parameters, Plan, parameters_for
from karbor.errors import Conflict, InvalidInput, NotFound, Refused
from karbor.protection.catalogue import EVERY_PROJECT
from karbor.protection.copies import refuse_copy
from karbor.protection.handler import new_run
from karbor.protection.logs import new_log
from karbor.protection.offer import ProviderView, check_plan, view
from karbor.protection.op import parsed_options
from karbor.protection.places import check_places
from karbor.protection.run import RunInput

if TYPE_CHECKING:
    from karbor.bank.vault.repository import Repository
    from karbor.domain.clock import Clock, Randomness
    from karbor.domain.context import Caller
    from karbor.domain.preflight import Preflight
    from karbor.domain.resource import Resource
    from karbor.flow.journal import Journal
    from karbor.protection.catalogue import Catalogue
    from karbor.protection.delegation import Delegations
    from karbor.protection.inventory import Instance, Inventory
    from karbor.protection.preflight import Preflights
    from karbor.protection.quotas import Quotas
    from karbor.protection.upkeep import Repositories
    from karbor.protection.vaults import Vaults
    from karbor.providers import Provider, Providers
    from karbor.sdk.vault import Entry, ImageReader

Kind = Literal["checkpoint", "restore", "verification"]


class ProtectionService:
    """What can be asked for. Reading is done through `catalogue`, with the caller's scope."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        journal: Journal,
        providers: Providers,
        inventory: Inventory,
        vaults: Vaults,
        preflights: Preflights,
        delegations: Delegations,
        repositories: Repositories,
        quotas: Quotas,
        clock: Clock,
        random: Randomness,
    ) -> None:
        self.catalogue = catalogue
        self.inventory = inventory
        self._journal, self._providers, self._vaults = journal, providers, vaults
        self._preflights, self._delegations, self._repositories = preflights, delegations, repositories
        self._quotas, self._clock, self._random = quotas, clock, random

    # --- what there is

    def types(self) -> list[str]:
        """Resource types that can be listed."""
        return self.inventory.types()

    def dependent_types(self, kind: str) -> list[str]:
        """Types whose resources a resource of this type may depend on."""
        return self.inventory.dependent_types(kind)

    def instances(self, caller: Caller, kind: str) -> list[Instance]:
        """Every resource of a type in the caller's project."""
        return self.inventory.instances(self._preflights.session_of(caller), kind)

    def instance(self, caller: Caller, kind: str, ident: str) -> Instance:
        """One resource in the caller's project."""
        return self.inventory.instance(self._preflights.session_of(caller), kind, ident)

    def providers(self, _caller: Caller) -> list[ProviderView]:
        """The providers that the caller may use."""
        return [view(provider) for provider in self._providers.all()]

    def provider(self, _caller: Caller, provider_id: str) -> ProviderView:
        """One provider."""
        return view(self._providers.get(provider_id))

    def provider_problems(self) -> dict[str, str]:
        """Why files of providers cannot be used, by name of the file; for administrators."""
        return self._providers.problems

    # --- plans

    def create_plan(
        self,
        caller: Caller,
        *,
        name: str,
        description: str | None,
        provider_id: str,
        resources: list[Resource],
        parameters: Parameters,
    ) -> Plan:
        """Store a plan; its resources and parameters are checked against the provider."""
        try:
            provider = self._providers.get(provider_id)
        except NotFound as error:
            known = ", ".join(each.id for each in self._providers.all())
            raise InvalidInput(
                "The provider could not be found.", field="plan.provider_id", hint=f"there are: {known}"
            ) from error
        check_plan(provider, self._known_types(), resources, parameters)
        plan = Plan(
            id=self._random.uuid(),
            project_id=caller.project_id,
            name=name,
            description=description,
            provider_id=provider_id,
            resources=tuple(resources),
            parameters=parameters,
            created_at=self._clock.now(),
        )

        def work(tx: Any) -> None:
            self._quotas.check(tx, plan.project_id, "plans")
            self.catalogue.insert(tx, plan)

        self.catalogue.transact(work)
        return plan

    def _known_types(self) -> set[str]:
        return {*self.inventory.types(), *self._providers.types()}

    def update_plan(
        self,
        caller: Caller,
        plan_id: str,
        *,
        name: str | None = None,
        description: str | msgspec.UnsetType | None = msgspec.UNSET,
        status: str | None = None,
        resources: list[Resource] | None = None,
    ) -> Plan:
        """Change a plan that is suspended."""

        def work(tx: Any) -> Plan:
            plan = self.catalogue.get(Plan, caller.project_id, plan_id, tx=tx)
            if plan.status != SUSPENDED:
                raise InvalidInput(
                    "Invalid plan: The plan can be only updated in suspended status.", field="plan.status"
                )
            if resources is not None:
                provider = self._providers.get(plan.provider_id)
                check_plan(provider, self._known_types(), resources, plan.parameters)
            new = msgspec.structs.replace(
                plan,
                name=plan.name if name is None else name,
                description=plan.description if isinstance(description, msgspec.UnsetType) else description,
                status=plan.status if status is None else status,
                resources=plan.resources if resources is None else tuple(resources),
            )
            self.catalogue.replace(tx, new, expected_status=plan.status)
            return new

        return self.catalogue.transact(work)

    def delete_plan(self, caller: Caller, plan_id: str) -> None:
        """Remove a plan; its checkpoints stay."""
        self.catalogue.transact(lambda tx: self.catalogue.remove(tx, Plan, caller.project_id, plan_id))

    # --- checkpoints

    def protect(self, caller: Caller, provider_id: str, plan_id: str, extra_info: dict[str, Any]) -> Checkpoint:
        """Begin a checkpoint of a plan."""
        provider, plan = self._provider_and_plan(caller, provider_id, plan_id)
        provider.check_operation("protect", plan.resources)
        checkpoint = Checkpoint(
            id=self._random.uuid(),
            project_id=caller.project_id,
            provider_id=provider.id,
            plan_id=plan.id,
            plan_name=plan.name,
            status=states.PROTECTING,
            created_at=self._clock.now(),
            resources=plan.resources,
            parameters=plan.parameters,
            extra_info={"created_by": "manual", **extra_info},
        )
        log = self._log(caller, "protect", states.PROTECTING, checkpoint)
        begun = self._input(caller, log, parameters=plan.parameters, resources=plan.resources)

        def work(tx: Any) -> None:
            self._quotas.check(tx, checkpoint.project_id, "checkpoints")
            there = {"provider_id": provider.id, "status": states.AVAILABLE}
            follows = self.catalogue.count(tx, Checkpoint, caller.project_id, there) > 0
            self.catalogue.insert(tx, checkpoint)
            self.catalogue.insert(tx, log)
            self._begin(tx, "protect", checkpoint, msgspec.structs.replace(begun, follows=follows))

        self.catalogue.transact(work)
        return checkpoint

    def copy(self, caller: Caller, provider_id: str, plan_id: str) -> NoReturn:
        """Refuse to copy the checkpoints of a plan, by the name of what cannot."""
        refuse_copy(self.catalogue, *self._provider_and_plan(caller, provider_id, plan_id))

    def runs_commands(self, caller: Caller, plan_id: str) -> bool:
        """Whether a protect of the plan would run commands that the administrator declared."""
        plan = self.catalogue.get(Plan, caller.project_id, plan_id)
        return self._providers.get(plan.provider_id).runs_commands(plan.resources)

    def preflight_protect(self, caller: Caller, provider_id: str, plan_id: str) -> Preflight:
        """What a protect would read, resource by resource."""
        provider, plan = self._provider_and_plan(caller, provider_id, plan_id)
        return self._preflights.protect(caller, provider, plan)

    def _provider_and_plan(self, caller: Caller, provider_id: str, plan_id: str) -> tuple[Provider, Plan]:
        provider = self._providers.get(provider_id)
        plan = self.catalogue.get(Plan, caller.project_id, plan_id)
        if plan.provider_id != provider.id:
            raise InvalidInput(
                "Invalid plan: The parameter provider_id is not the same as the value in the plan.", field="provider_id"
            )
        return provider, plan

    def checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint:
        """One checkpoint, deleted ones too; it must belong to the provider."""
        self._providers.get(provider_id)
        scope = EVERY_PROJECT if caller.is_admin else caller.project_id
        checkpoint = self.catalogue.get(Checkpoint, scope, checkpoint_id)
        if checkpoint.provider_id != provider_id:
            raise NotFound(f"Checkpoint {checkpoint_id} could not be found.")
        return checkpoint

    def delete_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> None:
        """Begin the deletion of a checkpoint that is finished, however it ended."""
        known = self.checkpoint(caller, provider_id, checkpoint_id)
        log = self._log(caller, "delete", states.DELETING, known)
        begun = self._input(caller, log)

        def work(tx: Any) -> None:
            record = self.catalogue.get(Checkpoint, known.project_id, known.id, tx=tx)
            if states.DELETING not in states.MOVES[record.status]:
                raise Conflict(f"The checkpoint {record.id} can not be deleted: it is {record.status}.")
            self._check_unused(tx, record)
            self.catalogue.replace(tx, msgspec.structs.replace(record, status=states.DELETING))
            self.catalogue.insert(tx, log)
            self._begin(tx, "delete", record, msgspec.structs.replace(begun, snapshot_id=record.snapshot_id))

        self.catalogue.transact(work)

    def _check_unused(self, tx: Any, checkpoint: Checkpoint) -> None:
        busy = {"checkpoint_id": checkpoint.id, "status": IN_PROGRESS}
        readers = self.catalogue.count(tx, Restore, checkpoint.project_id, busy)
        readers += self.catalogue.count(tx, Verification, checkpoint.project_id, busy)
        if readers:
            raise Conflict(f"The checkpoint {checkpoint.id} can not be deleted: it is being read.")

    def undelete_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> None:
        """Begin to bring a deleted checkpoint back; possible until its grace is over."""
        known = self.checkpoint(caller, provider_id, checkpoint_id)
        log = self._log(caller, "undelete", states.DELETED, known)

        def work(tx: Any) -> None:
            record = self.catalogue.get(Checkpoint, known.project_id, known.id, tx=tx)
            if record.status != states.DELETED or not record.snapshot_id:
                raise Conflict(
                    f"checkpoint {record.id} cannot be brought back: it is {record.status}, and nothing is left"
                )
            run = self._journal.run(self.catalogue.run_of(Checkpoint, record.id))
            if run is not None and run.finished_at is None:
                raise Conflict(f"checkpoint {record.id} is being worked on")
            self._quotas.check(tx, record.project_id, "checkpoints")
            self.catalogue.insert(tx, log)
            begun = RunInput(caller=caller.remembered(), log_id=log.id, snapshot_id=record.snapshot_id)
            self._begin(tx, "undelete", record, begun)

        self.catalogue.transact(work)

    def reset_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str, state: str) -> None:
        """Set the status of a checkpoint that nothing works on; `available` only where its manifest can be read."""
        known = self.checkpoint(caller, provider_id, checkpoint_id)
        run = self._journal.run(self.catalogue.run_of(Checkpoint, known.id))
        if run is not None and run.finished_at is None:
            raise InvalidInput(f"The checkpoint {known.id} can not be reset: it is being worked on.", field="state")
        if known.status == states.DELETED or (known.status == states.ERROR_DELETING and state == states.AVAILABLE):
            raise InvalidInput(f"The checkpoint {known.id} can not be reset: it is {known.status}.", field="state")
        if state == states.AVAILABLE:
            if not known.snapshot_id:
                message = f"The checkpoint {known.id} can not be reset: it was never committed to the bank."
                raise InvalidInput(message, field="state")
            load_manifest(
                self._vaults.open(self._providers.get(known.provider_id), known.project_id), known.snapshot_id
            )

        def work(tx: Any) -> None:
            record = self.catalogue.get(Checkpoint, known.project_id, known.id, tx=tx)
            self.catalogue.replace(tx, msgspec.structs.replace(record, status=state), expected_status=known.status)

        self.catalogue.transact(work)

    # --- restores and verifications

    def restore(
        self,
        caller: Caller,
        *,
        provider_id: str,
        checkpoint_id: str,
        parameters: Parameters,
        restore_target: str | None = None,
        restore_auth: dict[str, Any] | None = None,
        resources: list[str] | None = None,
        undo: bool = False,
    ) -> Restore:
        """Begin a restore; what the pre-flight refuses is refused before anything is made."""
        del restore_auth  # v1 sends it; restores go to the caller's own project, in the caller's name
        checkpoint = self._readable(caller, provider_id, checkpoint_id)
        selected = tuple(resources or ())
        answer = self._preflights.restore(caller, self._providers.get(provider_id), checkpoint, parameters, selected)
        if answer.refusals:
            first = answer.refusals[0]
            more = f" (and {len(answer.refusals) - 1} more)" if len(answer.refusals) > 1 else ""
            raise Refused(
                f"{first.resource}: {first.what}: {first.reason}{more}", hint="ask for a dry run to see them all"
            )
        restore = Restore(
            id=self._random.uuid(),
            project_id=caller.project_id,
            provider_id=provider_id,
            checkpoint_id=checkpoint.id,
            parameters=parameters,
            status=IN_PROGRESS,
            created_at=self._clock.now(),
            restore_target=restore_target,
            resources=selected,
            places=tuple(sorted({item.what for item in answer.items if item.action in {"create", "overwrite"}})),
        )
        log = self._log(caller, "restore", IN_PROGRESS, checkpoint, restore_id=restore.id)
        begun = self._input(
            caller,
            log,
            object_id=restore.id,
            parameters=parameters,
            selected=selected,
            snapshot_id=checkpoint.snapshot_id,
            undo=undo,
        )

        def work(tx: Any) -> None:
            # Locks the repository's row: of two restores that begin at once the second sees the first.
            self._repositories.join(tx, provider_id, restore.project_id)
            check_places(self.catalogue, restore)
            self._still_readable(tx, checkpoint)
            self.catalogue.insert(tx, restore)
            self.catalogue.insert(tx, log)
            self._begin(tx, "restore", checkpoint, begun)

        self.catalogue.transact(work)
        return restore

    def preflight_restore(
        self,
        caller: Caller,
        *,
        provider_id: str,
        checkpoint_id: str,
        parameters: Parameters,
        restore_target: str | None = None,
        restore_auth: dict[str, Any] | None = None,
        resources: list[str] | None = None,
        undo: bool = False,
    ) -> Preflight:
        """What a restore would create, reuse, overwrite, skip or refuse."""
        del restore_target, restore_auth, undo
        checkpoint = self._readable(caller, provider_id, checkpoint_id)
        provider = self._providers.get(provider_id)
        return self._preflights.restore(caller, provider, checkpoint, parameters, tuple(resources or ()))

    def verify(self, caller: Caller, *, provider_id: str, checkpoint_id: str, parameters: Parameters) -> Verification:
        """Begin to read a checkpoint back."""
        checkpoint = self._readable(caller, provider_id, checkpoint_id)
        provider = self._providers.get(provider_id)
        provider.check_operation("verify", self._resources(checkpoint))
        for resource in self._resources(checkpoint):
            parsed_options(provider.plugin_for(resource.type), "verify", parameters_for(parameters, resource))
        verification = Verification(
            id=self._random.uuid(),
            project_id=caller.project_id,
            provider_id=provider_id,
            checkpoint_id=checkpoint.id,
            parameters=parameters,
            status=IN_PROGRESS,
            created_at=self._clock.now(),
        )
        log = self._log(caller, "verify", IN_PROGRESS, checkpoint, verification_id=verification.id)
        begun = self._input(
            caller, log, object_id=verification.id, parameters=parameters, snapshot_id=checkpoint.snapshot_id
        )

        def work(tx: Any) -> None:
            self._still_readable(tx, checkpoint)
            self.catalogue.insert(tx, verification)
            self.catalogue.insert(tx, log)
            self._begin(tx, "verify", checkpoint, begun)

        self.catalogue.transact(work)
        return verification

    def _resources(self, checkpoint: Checkpoint) -> tuple[Resource, ...]:
        return checkpoint.graph.resources if checkpoint.graph else checkpoint.resources

    def _readable(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint:
        self._providers.get(provider_id)
        checkpoint = self.catalogue.get(Checkpoint, caller.project_id, checkpoint_id)
        if checkpoint.provider_id != provider_id:
            raise NotFound(f"Checkpoint {checkpoint_id} could not be found.")
        if checkpoint.status != states.AVAILABLE:
            raise Conflict(f"checkpoint {checkpoint_id} is {checkpoint.status}, not available")
        return checkpoint

    def _still_readable(self, tx: Any, checkpoint: Checkpoint) -> None:
        now = self.catalogue.get(Checkpoint, checkpoint.project_id, checkpoint.id, tx=tx)
        if now.status != states.AVAILABLE:
            raise Conflict(f"checkpoint {checkpoint.id} is {now.status}, not available")

    # --- runs

    def cancel(self, caller: Caller, kind: Kind, ident: str) -> None:
        """Ask whatever works on a checkpoint, restore or verification to end; what it made is undone."""
        run_id = self._run_of(caller, kind, ident)

        def work(tx: Any) -> None:
            if not self._journal.cancel(tx, run_id, "the user has cancelled it"):
                raise Conflict(f"{kind} {ident} is not being worked on")

        self.catalogue.transact(work)

    def progress(self, caller: Caller, kind: Kind, ident: str) -> Progress:
        """How far the newest run on a checkpoint, restore or verification is."""
        run_id = self._run_of(caller, kind, ident)
        return self._journal.progress(run_id) if run_id else Progress()

    def _run_of(self, caller: Caller, kind: Kind, ident: str) -> str:
        scope = EVERY_PROJECT if caller.is_admin else caller.project_id
        if kind == "checkpoint":
            return self.catalogue.run_of(Checkpoint, self.catalogue.get(Checkpoint, scope, ident).id)
        if kind == "restore":
            return self.catalogue.run_of(Restore, self.catalogue.get(Restore, scope, ident).id)
        return self.catalogue.run_of(Verification, self.catalogue.get(Verification, scope, ident).id)

    def _input(self, caller: Caller, log: OperationLog, **what: Any) -> RunInput:
        """A run's input. It asks the cloud for a delegation, so it is made before the transaction is opened."""
        delegation = self._delegations.ensure(caller)
        return RunInput(caller=caller.remembered(), log_id=log.id, delegation_id=delegation, **what)

    def _begin(self, tx: Any, operation: str, checkpoint: Checkpoint, begun: RunInput) -> None:
        epoch = self._repositories.join(tx, checkpoint.provider_id, checkpoint.project_id)
        run = new_run(self._random.uuid(), operation, checkpoint, begun, epoch)
        self._journal.begin_run(tx, run)

    def _log(self, caller: Caller, operation: str, status: str, checkpoint: Checkpoint, **about: str) -> OperationLog:
        return new_log(self._random.uuid(), self._clock.now(), caller, operation, status, checkpoint, **about)

    # --- looking into a checkpoint

    def entries(self, caller: Caller, provider_id: str, checkpoint_id: str, key: str, path: str) -> list[Entry]:
        """What lies at a path of the data of the resource with this key."""
        return browse.entries(*self._tree(caller, provider_id, checkpoint_id, key), path)

    def open(self, caller: Caller, provider_id: str, checkpoint_id: str, key: str, path: str) -> ImageReader:
        """Random access to one file of a resource's data, or to its image where the path is empty."""
        return browse.open_file(*self._tree(caller, provider_id, checkpoint_id, key), path)

    def _tree(self, caller: Caller, provider_id: str, checkpoint_id: str, key: str) -> tuple[Repository, bytes]:
        checkpoint = self._readable(caller, provider_id, checkpoint_id)
        repository = self._vaults.open(self._providers.get(provider_id), checkpoint.project_id)
        return repository, resource_tree(load_manifest(repository, checkpoint.snapshot_id), key)
