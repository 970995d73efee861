"""The host's plugins against the contract suite that vendors use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import yaml

from karbor.domain.resource import HOST_APPLICATION, VOLUME, Resource
from karbor.plugins.host.application import Applications, Databases, Directories, DiskImages
from karbor.plugins.host.database import DatabaseProtection
from karbor.plugins.host.directory import DirectoryProtection
from karbor.plugins.host.diskimage import DiskImageProtection
from karbor.plugins.host.protect_application import ApplicationProtection
from karbor.plugins.noop import Noop
from karbor.sdk.contract.protection import ProtectionContract
from karbor.sdk.contract.vault import MemoryVault

ROOT = Path(tempfile.gettempdir()) / f"karbor-host-contract-{os.getpid()}"


class HostWorld:
    """One application in a folder of its own, always at the same path."""

    secrets: tuple[str, ...] = ()
    children: tuple[Resource, ...] = ()

    def __init__(self, protectable: Any, protection: Any, member: dict[str, Any], **more: Any) -> None:
        self.home = ROOT
        shutil.rmtree(self.home, ignore_errors=True)
        (self.home / "hosts.d").mkdir(parents=True)
        self.home.chmod(0o755)
        (self.home / "hosts.d").chmod(0o755)
        self.data = self.home / "data"
        self.data.mkdir()
        document = {"name": "shop", "members": [member], **more}
        path = self.home / "hosts.d" / "shop.yaml"
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o640)
        options = {"hosts_dir": str(self.home / "hosts.d"), "never": str(self.home / "state")}
        self.plugin = protection(options)
        [self.resource] = protectable(options).list(None)
        self.parents = () if self.resource.type == HOST_APPLICATION else tuple(Applications(options).list(None))
        self.vault = MemoryVault()
        self.options: dict[str, dict[str, Any]] = {}

    def observe(self) -> Any:
        found = {}
        for path in sorted(self.data.rglob("*")):
            status = path.lstat()
            content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[str(path)] = (status.st_mode, content)
        return found

    def comparable(self, document: dict[str, Any]) -> Any:
        document.get("attributes", {}).pop("mtime_ns", None)
        return document

    def lose(self) -> None:
        shutil.rmtree(self.data)
        self.data.mkdir()

    def close(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


class TestDirectory(ProtectionContract):
    def open_world(self) -> HostWorld:
        world = HostWorld(Directories, DirectoryProtection, {"kind": "directory", "path": str(ROOT / "data" / "www")})
        www = world.data / "www"
        www.mkdir()
        (www / "index.html").write_text("hello")
        (www / "img").mkdir()
        (www / "img" / "a.png").write_bytes(b"\0" * 100)
        (www / "link").symlink_to("index.html")
        return world


class TestDiskImage(ProtectionContract):
    def open_world(self) -> HostWorld:
        world = HostWorld(
            DiskImages, DiskImageProtection, {"kind": "disk image", "path": str(ROOT / "data" / "vm.img")}
        )
        with (world.data / "vm.img").open("wb") as file:
            file.write(b"boot" * 1000)
            file.seek(1 << 20)
            file.write(b"end")
        return world


class TestDiskImageOverwritten(TestDiskImage):
    def open_world(self) -> HostWorld:
        world = super().open_world()
        world.options["restore"] = {"overwrite": True}
        world.lose = lambda: (world.data / "vm.img").write_bytes(b"changed")
        return world

    def test_undo_removes_what_was_made(self) -> None:
        """What was overwritten is gone: undo says so, and there is nothing to compare."""


class TestSqlite(ProtectionContract):
    def open_world(self) -> HostWorld:
        world = HostWorld(Databases, DatabaseProtection, {"kind": "sqlite", "path": str(ROOT / "data" / "orders.db")})
        with sqlite3.connect(world.data / "orders.db") as database:
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)")
            database.executemany("INSERT INTO orders (what) VALUES (?)", [("x" * 100,)] * 50)
        database.close()
        return world


class TestApplication(ProtectionContract):
    def open_world(self) -> HostWorld:
        log = ROOT / "log"
        script = ROOT / "say"
        world = HostWorld(
            Applications,
            ApplicationProtection,
            {"kind": "directory", "path": str(ROOT / "data")},
            before=[
                {"command": [str(script), "rest database"], "layer": "database"},
                {"command": [str(script), "rest web"], "layer": "web"},
            ],
            after=[
                {"command": [str(script), "go web"], "layer": "web"},
                {"command": [str(script), "go database"], "layer": "database"},
            ],
        )
        script.write_text(f'#!/bin/sh\necho "$1" >> {log}\n')
        script.chmod(0o755)
        world.observe = lambda: list(dict.fromkeys(log.read_text().splitlines())) if log.exists() else []
        return world

    def test_undo_removes_what_was_made(self) -> None:
        """Commands cannot be unsaid; that `after` runs is tested with the application."""


class NoopWorld:
    children: tuple[Resource, ...] = ()
    parents: tuple[Resource, ...] = ()
    secrets: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.plugin = Noop({})
        self.resource = Resource(type=VOLUME, id="6e1d4a0c-6c3f-4f57-8f63-3d1f2b8a9f10", name="disk")
        self.vault = MemoryVault()
        self.options: dict[str, dict[str, Any]] = {}

    def observe(self) -> Any:
        return self.vault.writes

    def comparable(self, document: dict[str, Any]) -> Any:
        return document

    def lose(self) -> None:
        pass

    def close(self) -> None:
        pass


class TestNoop(ProtectionContract):
    def open_world(self) -> NoopWorld:
        return NoopWorld()
