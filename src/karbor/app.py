"""The composition root: settings → adapters → services. The only module that knows every adapter."""

from __future__ import annotations

import logging
import os
import threading
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.api.application import build_application
from karbor.api.auth import NoAuth, StaticAuth
from karbor.api.keystone import KeystoneAuth, behind_keystone
from karbor.api.policy import OsloPolicy
from karbor.api.route import Services
from karbor.bank.rootkey import derive, read_key_file
from karbor.bank.wrappers import Retrying
from karbor.clouds.session import Clouds
from karbor.clouds.trust import Trusts
from karbor.db.catalogue import SqlCatalogue
from karbor.db.changes import SqlChanges
from karbor.db.engine import Database
from karbor.db.journal import SqlJournal
from karbor.db.migrate import upgrade
from karbor.db.programs import SqlPrograms
from karbor.db.quotas import SqlQuotas
from karbor.db.repositories import SqlRepositories
from karbor.domain.context import Caller
from karbor.domain.delegation import Delegation
from karbor.domain.quota import Limits
from karbor.domain.trigger import TriggerLimits
from karbor.errors import InvalidInput, Unavailable
from karbor.flow.sealing import Sealer
from karbor.flow.worker import Worker, WorkerOptions
from karbor.protection.catalogue import EVERY_PROJECT
from karbor.protection.delegation import NoDelegations, RecordedDelegations
from karbor.protection.ending import Endings
from karbor.protection.handler import FINISH, SETTLE, StepHandler
from karbor.protection.history import History
from karbor.protection.independence import independence
from karbor.protection.inventory import Inventory
from karbor.protection.joblocks import JobLocks
from karbor.protection.preflight import Preflights
from karbor.protection.programs import WORKER, Permission, Programs
from karbor.protection.quotas import Quotas
from karbor.protection.run import Runs
from karbor.protection.service import ProtectionService
from karbor.protection.upkeep import Upkeep
from karbor.protection.vaults import Vaults
from karbor.providers import Provider, Providers, load_providers
from karbor.schedule.service import ScheduleService
from karbor.sdk.loading import BANKS, PROTECTABLES, PROTECTIONS, load
from karbor.settings import Settings, from_config, read
from karbor.system import SystemClock, SystemRandomness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oslo_config.cfg import ConfigOpts

    from karbor.api.auth import Authenticator
    from karbor.api.keystone import Wsgi
    from karbor.protection.delegation import Delegations
    from karbor.protection.run import RunInput
    from karbor.sdk.protectable import Session

_HOST_TYPES = "Karbor::Host::"


class HostSession(msgspec.Struct, kw_only=True):
    """The session of a caller where there is no cloud."""

    project_id: str
    project_name: str

    @property
    def connection(self) -> Any:
        """There is none."""
        raise Unavailable("no cloud is configured here", hint="auth_strategy keystone and [trustee] name one")


class Application:
    """Everything of one process, made when it is first needed: nothing is opened before a fork."""

    def __init__(self, config: ConfigOpts) -> None:
        self.config = config
        self.settings: Settings = from_config(config)
        self.clock = SystemClock()
        self.random = SystemRandomness()
        self.log = logging.getLogger("karbor")

    # --- adapters

    @cached_property
    def database(self) -> Database:
        """The database; its tables must be there (`upgrade_database`)."""
        return Database(self.settings.connection, clock=self.clock)

    @cached_property
    def catalogue(self) -> SqlCatalogue:
        """The catalogue."""
        return SqlCatalogue(self.database)

    @cached_property
    def journal(self) -> SqlJournal:
        """The journal and the queue."""
        sealer = Sealer(read_key_file(self.settings.root_key_file))
        return SqlJournal(self.database, sealer, lease=self.settings.lease, max_takeovers=self.settings.max_tries)

    @cached_property
    def providers(self) -> Providers:
        """What administrators offer."""
        directory = self.settings.provider_config_dir
        found = load_providers(directory, load(PROTECTIONS), load(BANKS), {"*": self._plugin_options}, Retrying)
        for file, problem in found.problems.items():
            self.log.error("provider not loaded: %s: %s", file, problem, extra={"event": "provider"})
        return found

    @property
    def _plugin_options(self) -> dict[str, str]:
        """What every plugin may know of the service: where hosts are declared, and what must never be protected."""
        own = (self.settings.state_path, self.settings.root_key_file, self.settings.token_file)
        banks = self._bank_paths()
        return {
            "hosts_dir": str(self.settings.hosts_dir),
            "never": os.pathsep.join(str(path.absolute()) for path in (*own, *banks)),
        }

    def _bank_paths(self) -> list[Path]:
        """Folders of file-system banks, as the providers' files name them, before the plugins are made."""
        found = []
        for file in sorted(self.settings.provider_config_dir.glob("*.conf")):
            for line in file.read_text(errors="replace").splitlines():
                name, _, value = line.partition("=")
                if name.strip() in {"path", "file_system_bank_path"} and value.strip():
                    found.append(Path(value.strip()))
        return found

    @cached_property
    def inventory(self) -> Inventory:
        """What can be listed here: the host's resources, or the cloud's."""
        found = load(PROTECTABLES)
        options = self._plugin_options
        wanted = {
            kind: plugin(options)
            for kind, plugin in found.plugins.items()
            if kind.startswith(_HOST_TYPES) == self.settings.host_resources
        }
        return Inventory(wanted, found.problems)

    @cached_property
    def vaults(self) -> Vaults:
        """The repositories."""
        cache = self.settings.state_path / "cache"
        return Vaults(self._root_key_of, derive, self.clock, self.random, cache=cache, alone=self._alone)

    def _alone(self, provider_id: str, project_id: str, work: Callable[[], None]) -> None:
        """Do something to a repository that no other process of the service may do at the same time."""

        def locked(tx: Any) -> None:
            self.repositories.join(tx, provider_id, project_id)
            work()

        self.database.transact(locked)

    def _root_key_of(self, provider: Provider) -> bytes:
        return read_key_file(Path(provider.root_key_file) if provider.root_key_file else self.settings.root_key_file)

    @property
    def _in_cloud(self) -> bool:
        return self.settings.auth_strategy == "keystone" and not self.settings.host_resources

    @cached_property
    def clouds(self) -> Clouds:
        """Sessions to the cloud."""
        settings = self.settings
        return Clouds(
            self.config,
            region=settings.region_name,
            interface=settings.interface,
            timeout=settings.cloud_timeout,
            deadline=settings.cloud_deadline,
            clock=self.clock,
        )

    def session_of(self, caller: Caller) -> Session:
        """The caller's own connection to what is protected, while his request lasts."""
        if self._in_cloud:
            return self.clouds.of_caller(caller)
        return HostSession(project_id=caller.project_id, project_name=caller.project_name)

    def session_of_run(self, run: RunInput) -> Session:
        """The connection of long work, by the right that the caller delegated."""
        if not run.delegation_id:
            return HostSession(project_id=run.caller.project_id, project_name=run.caller.project_name)
        return self.clouds.of_delegation(self.catalogue.get(Delegation, EVERY_PROJECT, run.delegation_id))

    @cached_property
    def delegations(self) -> Delegations:
        """How users let the service act for them."""
        if not self._in_cloud:
            return NoDelegations()
        return RecordedDelegations(self.catalogue, Trusts(self.clouds), self.clock)

    # --- services

    @cached_property
    def service(self) -> ProtectionService:
        """The protection service as the API calls it."""
        return ProtectionService(
            catalogue=self.catalogue,
            journal=self.journal,
            providers=self.providers,
            inventory=self.inventory,
            vaults=self.vaults,
            preflights=Preflights(self.inventory, self.vaults, self.session_of, self.clock),
            delegations=self.delegations,
            repositories=self.repositories,
            quotas=self.quotas,
            clock=self.clock,
            random=self.random,
        )

    @cached_property
    def quotas(self) -> Quotas:
        """What projects may have."""
        configured = Limits(plans=self.settings.quota_plans, checkpoints=self.settings.quota_checkpoints)
        return Quotas(SqlQuotas(self.database), self.catalogue, configured)

    @cached_property
    def services(self) -> Services:
        """Everything that the API calls."""
        settings = self.settings
        schedules = ScheduleService(
            catalogue=self.catalogue,
            providers=self.providers,
            delegations=self.delegations,
            limits=TriggerLimits(
                min_interval=settings.min_interval, min_window=settings.min_window, max_window=settings.max_window
            ),
            clock=self.clock,
            random=self.random,
        )
        programs = Programs(SqlPrograms(self.database))
        return Services(protection=self.service, schedules=schedules, quotas=self.quotas, programs=programs)

    @cached_property
    def repositories(self) -> SqlRepositories:
        """Epochs and turns of upkeep."""
        return SqlRepositories(self.database)

    @cached_property
    def upkeep(self) -> Upkeep:
        """The service's own work on its banks."""
        return Upkeep(
            self.repositories, self.journal, self.catalogue, self.providers, clock=self.clock, random=self.random
        )

    @cached_property
    def handler(self) -> StepHandler:
        """What the worker's steps do."""
        endings = Endings(self.journal, self.catalogue, self.clock, host=self.settings.host, independence=independence)
        return StepHandler(
            runs=Runs(self.providers, self.vaults, self.journal),
            journal=self.journal,
            catalogue=self.catalogue,
            inventory=self.inventory,
            endings=endings,
            session_of=self.session_of_run,
            locks=JobLocks(self.journal, self.clock),
            upkeep=self.upkeep.actions,
            clock=self.clock,
            scratch_root=self.settings.state_path / "scratch",
        )

    @cached_property
    def history(self) -> History:
        """What writes the banks' histories."""
        return History(SqlChanges(self.database), self.providers, self.vaults, self.log)

    def _chores(self) -> None:
        self.upkeep.tick()
        self.history.flush()

    def authenticator(self) -> Authenticator:
        """Who decides whose a request is."""
        if self.settings.auth_strategy == "noauth":
            return NoAuth(self.settings.listen)
        if self.settings.auth_strategy == "static":
            project = self.settings.static_project
            caller = Caller(user_id="operator", project_id=project, project_name="default", roles=("admin", "member"))
            return StaticAuth({self._token(): caller})
        return KeystoneAuth(self.clouds.auth_url)

    def _token(self) -> str:
        path = self.settings.token_file
        try:
            if path.stat().st_mode & 0o077:
                raise InvalidInput(
                    f"token file {path} can be read by others; its mode must be 0600", field="token_file"
                )
            return path.read_text().strip()
        except OSError as error:
            raise InvalidInput(f"token file {path} cannot be read: {error.strerror}", field="token_file") from error

    def wsgi(self) -> Wsgi:
        """The API as a WSGI application."""
        api = build_application(
            self.services,
            self.authenticator(),
            OsloPolicy(self.config),
            clock=self.clock,
            max_limit=self.settings.max_limit,
        )
        return behind_keystone(api, self.config) if self.settings.auth_strategy == "keystone" else api

    def upgrade_database(self) -> None:
        """Bring the tables to this version."""
        upgrade(self.database)

    def run_worker(self, stop: threading.Event) -> None:
        """Work until `stop` is set; an incarnation whose lease was lost is followed by a fresh one."""
        settings = self.settings
        options = WorkerOptions(
            threads=settings.worker_threads,
            lease=settings.lease,
            heartbeat=settings.heartbeat,
            drain=settings.drain,
            max_tries=settings.max_tries,
            patient=frozenset({SETTLE, FINISH}),
        )
        programs = SqlPrograms(self.database)
        programs.register(WORKER, settings.host)
        while not stop.is_set():
            worker = Worker(
                self.journal,
                self.handler,
                worker_id=self.random.uuid(),
                host=settings.host,
                pid=os.getpid(),
                clock=self.clock,
                random=self.random,
                log=self.log,
                options=options,
                chore=self._chores,
                may_claim=Permission(programs, settings.host, self.clock),
            )
            watcher = threading.Thread(target=partial(_stop_with, stop, worker), daemon=True)
            watcher.start()
            try:
                worker.run()
            finally:
                self.handler.close()


def _stop_with(stop: threading.Event, worker: Worker) -> None:
    while not worker.stopping.is_set():
        if stop.wait(0.2):
            worker.stopping.set()


def application(files: Sequence[Path]) -> Application:
    """The process's application from its configuration files."""
    return Application(read(files))
