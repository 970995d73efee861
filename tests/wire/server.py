"""A real API process with a worker in it, for the wire tests: `server.py DIRECTORY`.

Everything is the product's own but for the inventory and one plugin, which stand for a cloud with two volumes and two
servers, and the callers of three projects. It prints ``ready PORT``.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Literal

import msgspec
import waitress

from karbor.api.application import build_application
from karbor.api.auth import StaticAuth
from karbor.api.policy import OsloPolicy
from karbor.app import application
from karbor.bank.rootkey import make_key_file
from karbor.domain.context import Caller
from karbor.domain.resource import IMAGE, SERVER, VOLUME, Resource
from karbor.plugins.noop import Noop
from karbor.protection.inventory import Inventory
from karbor.providers import load_providers
from karbor.sdk.loading import BANKS, Loaded, load
from karbor.sdk.protectable import Protectable

V1, V2, S1, S2 = (f"{name * 4}-0000-4000-8000-00000000000{name[1]}" for name in ("a1", "a2", "b1", "b2"))
I = "cccccccc-0000-4000-8000-000000000001"  # noqa: E741 - the facts' name for the image
N, O = "b766f37c-d011-4026-8228-28730d734a3f", "cf56bd3e-97a7-4078-b6d5-f36246333fd9"  # noqa: E741
P, P2, P3, P4, P5, P6 = (digit * 32 for digit in "123456")
TOKENS = {
    "m": Caller(user_id="user-m", project_id=P, roles=("member", "reader")),
    "m2": Caller(user_id="user-m2", project_id=P2, roles=("member", "reader")),
    "a": Caller(user_id="user-a", project_id=P, roles=("admin", "member", "reader")),
    "r": Caller(user_id="user-r", project_id=P, roles=("reader",)),
    "m3": Caller(user_id="user-m3", project_id=P3, roles=("member", "reader")),
    "m6": Caller(user_id="user-m6", project_id=P6, roles=("member", "reader")),
    "a5": Caller(user_id="user-a5", project_id=P5, roles=("admin", "member", "reader")),
    "m4": Caller(user_id="user-m4", project_id=P4, roles=("member", "reader")),
    "r4": Caller(user_id="user-r4", project_id=P4, roles=("reader",)),
    "x4": Caller(user_id="user-x4", project_id=P4, roles=("swiftoperator",)),
}

_CONFIG = """\
[DEFAULT]
state_path = {state}
provider_config_dir = {state}/providers.d
auth_strategy = static
min_interval = 60
min_window_time = 20
max_window_time = 30
[worker]
threads = 2
"""
_PROVIDER = """\
[provider]
name = {name}
id = {ident}
description = {name} of the tests
bank = karbor-fs-bank-plugin
plugin = {plugin}
delete_grace = 0
enabled = True
[karbor-fs-bank-plugin]
path = {state}/bank-{plugin}
"""


class VolumeOptions(msgspec.Struct, frozen=True):
    """The options of v1's volume backups."""

    backup_name: str | None = None
    backup_mode: Literal["full", "incremental"] = "full"
    force: bool = False


class RestoreOptions(msgspec.Struct, frozen=True):
    restore_name: str | None = None


class Typed(Noop):
    """Does nothing, to three types, with options."""

    name = "typed"
    schemaless = False
    protect_options = VolumeOptions
    restore_options = RestoreOptions

    def __init__(self, options):
        super().__init__(options)
        self.types = (VOLUME, SERVER, IMAGE)


class Cloud(Protectable):
    """Two volumes, two servers booted from one image; the second volume is attached to the first server."""

    volumes = (
        Resource(type=VOLUME, id=V1, name="vol1", extra_info={"availability_zone": "nova"}),
        Resource(type=VOLUME, id=V2, name="vol2", extra_info={"availability_zone": "nova"}),
    )
    servers = (Resource(type=SERVER, id=S1, name="srv1"), Resource(type=SERVER, id=S2, name="srv2"))


class Volumes(Cloud):
    type, parents = VOLUME, (SERVER,)

    def list(self, session):
        return self.volumes

    def dependents(self, session, parents):
        return {parent.key: [self.volumes[1]] for parent in parents if parent.id == S1}


class Servers(Cloud):
    type, parents = SERVER, ()

    def list(self, session):
        return self.servers

    def dependents(self, session, parents):
        return {}


class Images(Cloud):
    type, parents = IMAGE, (SERVER,)

    def list(self, session):
        return [Resource(type=IMAGE, id=I, name="cirros")]

    def dependents(self, session, parents):
        return {p.key: [Resource(type=IMAGE, id=I, name="cirros", extra_info={"server_id": p.id})] for p in parents}


def prepared(state: Path):
    """The application of a fresh directory."""
    (state / "providers.d").mkdir()
    (state / "karbor.conf").write_text(_CONFIG.format(state=state))
    for name, ident, plugin in (("No-Op Provider", N, "karbor-noop-protection-plugin"), ("Typed Provider", O, "typed")):
        text = _PROVIDER.format(name=name, ident=ident, plugin=plugin, state=state)
        (state / "providers.d" / f"{plugin}.conf").write_text(text)
    make_key_file(state / "root.key", os.urandom)
    app = application([state / "karbor.conf"])
    plugins = Loaded(plugins={"karbor-noop-protection-plugin": Noop, "typed": Typed}, problems={})
    app.__dict__["providers"] = load_providers(state / "providers.d", plugins, load(BANKS), {})
    app.__dict__["inventory"] = Inventory({plugin.type: plugin() for plugin in (Volumes, Servers, Images)}, {})
    app.upgrade_database()
    return app


def main(state: Path) -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.WARNING)
    app = prepared(state)
    wsgi = build_application(app.services, StaticAuth(TOKENS), OsloPolicy(app.config), clock=app.clock)
    server = waitress.create_server(wsgi, host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=app.run_worker, args=(threading.Event(),), daemon=True).start()
    print(f"ready {server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
