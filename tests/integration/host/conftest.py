"""A host with one declared application, its plugins, and the real vault in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.resource_vault import ResourceVault
from karbor.plugins.host.application import Applications, Databases, Directories, DiskImages
from karbor.plugins.host.database import DatabaseProtection
from karbor.plugins.host.directory import DirectoryProtection
from karbor.plugins.host.diskimage import DiskImageProtection
from karbor.plugins.host.protect_application import ApplicationProtection
from karbor.sdk.contract.op import FakeLook, Journal, Stage, perform
from karbor.system import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

PLUGINS = (ApplicationProtection, DirectoryProtection, DiskImageProtection, DatabaseProtection)
LISTS = (Applications, Directories, DiskImages, Databases)


class OneResource:
    """`op.vault` of one resource in a repository: what was written last is what is read."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.tree = ""

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if not name.startswith("write_"):
                return getattr(ResourceVault(self._repository, None, data_tree=bytes.fromhex(self.tree)), name)(
                    *args, **options
                )
            previous = bytes.fromhex(self.tree) or None
            with self._repository.writer() as writer:
                written = getattr(ResourceVault(self._repository, writer, previous_tree=previous), name)(
                    *args, **options
                )
            self.tree = written.tree
            return written

        return call


class Host:
    """Protects and restores members of the application `shop`, by name, as the engine would."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.hosts = home / "hosts.d"
        self.hosts.mkdir()
        self.bank = FilesystemBank(str(home / "bank"))
        self.options = {"hosts_dir": str(self.hosts), "never": str(home / "bank")}
        self.repository = Repository.create(self.bank, "provider/project-g1/", "tests", clock=SystemClock())
        self.vaults: dict[str, OneResource] = {}
        self.journals: dict[str, Journal] = {}
        self.saved: dict[str, dict[str, Any]] = {}
        (home / "scratch").mkdir()

    def declare(self, *members: dict[str, Any], **more: Any) -> None:
        path = self.hosts / "shop.yaml"
        path.write_text(yaml.safe_dump({"name": "shop", "members": list(members), **more}))
        path.chmod(0o640)

    def stage(self, name: str, operation: str, options: dict[str, Any]) -> tuple[Any, Stage]:
        resources = {resource.name: resource for kind in LISTS for resource in kind(self.options).list(None)}
        resource = resources[name]
        plugin = next(kind(self.options) for kind in PLUGINS if resource.type in kind.types)
        stage = Stage(
            resource=resource,
            operation=operation,
            vault=self.vaults.setdefault(name, OneResource(self.repository)),
            scratch_root=self.home / "scratch",
            options=options,
            parents=() if name == "shop" else (resources["shop"],),
        )
        return plugin, stage

    def run(
        self, name: str, operation: str, hook: str = "main", crash_at: int | None = None, **options: Any
    ) -> Journal:
        plugin, stage = self.stage(name, operation, options)
        key = f"{operation} {name}"
        journal = self.journals.get(key) or Journal({} if operation == "protect" else self.saved[name])
        self.journals[key] = journal
        perform(getattr(plugin, f"{operation}_{hook}"), stage, journal, crash_at=crash_at)
        if operation == "protect":
            self.saved[name] = journal.saved
        if hook != "prepare_begin":
            del self.journals[key]
        return journal

    def protect(self, name: str) -> Journal:
        return self.run(name, "protect")

    def restore(self, name: str, **options: Any) -> Journal:
        return self.run(name, "restore", **options)

    def preflight(self, name: str, operation: str, **options: Any) -> list[tuple[str, str, str]]:
        plugin, stage = self.stage(name, operation, options)
        items = getattr(plugin, f"preflight_{operation}")(FakeLook(stage, self.saved.get(name)))
        return [(item.action, item.what, item.reason) for item in items]


@pytest.fixture
def host(tmp_path: Path):
    host = Host(tmp_path)
    yield host
    host.bank.close()
