"""The whole service in this process against the testbed: API behind keystonemiddleware, worker, file-system bank."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
import uuid

import pytest
import waitress

from karbor.app import application
from karbor.bank.rootkey import make_key_file

AUTH_URL = "http://127.0.0.1:5000/v3"
ENDED = {"available", "error", "cancelled", "success", "fail", "deleted", "error-deleting"}

_CONFIG = """\
[DEFAULT]
state_path = {state}
provider_config_dir = {state}/providers.d
auth_strategy = keystone
[worker]
threads = 4
[trustee]
auth_type = password
auth_url = {auth_url}
username = karbor
password = testbed
user_domain_name = Default
[keystone_authtoken]
auth_type = password
auth_url = {auth_url}
www_authenticate_uri = {auth_url}
username = karbor
password = testbed
user_domain_name = Default
project_name = service
project_domain_name = Default
[cloud]
region_name = RegionOne
"""
_PROVIDER = """\
[provider]
name = Vault on a file system
id = {ident}
bank = karbor-fs-bank-plugin
delete_grace = 0
enabled = True
{plugins}
[karbor-fs-bank-plugin]
path = {state}/bank-{ident}
"""


class Service:
    """A running service; `provider` adds one that has the plugins named."""

    def __init__(self, state):
        self.state = state
        (state / "providers.d").mkdir()
        (state / "karbor.conf").write_text(_CONFIG.format(state=state, auth_url=AUTH_URL))
        make_key_file(state / "root.key", os.urandom)
        self.app = application([state / "karbor.conf"])
        self.app.upgrade_database()
        self._stop = threading.Event()
        self._threads = []
        self._server = None

    def provider(self, *plugins):
        ident = str(uuid.uuid4())
        lines = "\n".join(f"plugin = {name}" for name in plugins)
        text = _PROVIDER.format(ident=ident, plugins=lines, state=self.state)
        (self.state / "providers.d" / f"{ident}.conf").write_text(text)
        return ident

    def start(self):
        self._server = waitress.create_server(self.app.wsgi(), host="127.0.0.1", port=0, threads=4)
        for target in (self._server.run, lambda: self.app.run_worker(self._stop)):
            self._threads.append(threading.Thread(target=target, daemon=True))
            self._threads[-1].start()

    def stop(self):
        self._stop.set()
        if self._server:
            self._server.close()
            self._threads[-1].join(30)

    @property
    def port(self):
        return self._server.effective_port


class Client:
    """One tenant at the API."""

    def __init__(self, service, tenant):
        self.service, self.tenant = service, tenant

    def call(self, method, path, body=None):
        url = f"http://127.0.0.1:{self.service.port}/v1/{self.tenant.project_id}{path}"
        headers = {"X-Auth-Token": self.tenant.cloud.auth_token, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error
        return json.loads(text) if text else None

    def instances(self, kind):
        return self.call("GET", f"/protectables/{kind}/instances")["instances"]

    def plan(self, provider, resources, parameters=None):
        body = {"name": "p", "provider_id": provider, "resources": resources, "parameters": parameters or {}}
        return self.call("POST", "/plans", {"plan": body})["plan"]["id"]

    def protect(self, provider, plan):
        path = f"/providers/{provider}/checkpoints"
        made = self.call("POST", path, {"checkpoint": {"plan_id": plan}})["checkpoint"]["id"]
        found = self.until(lambda: self.call("GET", f"{path}/{made}")["checkpoint"])
        assert found["status"] == "available", json.dumps(found, indent=1)
        return found

    def restore(self, provider, checkpoint, parameters=None, **more):
        body = {"provider_id": provider, "checkpoint_id": checkpoint, "parameters": parameters or {}, **more}
        made = self.call("POST", "/restores", {"restore": body})["restore"]["id"]
        found = self.until(lambda: self.call("GET", f"/restores/{made}")["restore"])
        assert found["status"] == "success", json.dumps(found, indent=1)
        return found

    def verify(self, provider, checkpoint):
        body = {"provider_id": provider, "checkpoint_id": checkpoint, "parameters": {}}
        made = self.call("POST", "/verifications", {"verification": body})["verification"]["id"]
        return self.until(lambda: self.call("GET", f"/verifications/{made}")["verification"])

    def delete(self, provider, checkpoint):
        path = f"/providers/{provider}/checkpoints/{checkpoint}"
        self.call("DELETE", path)
        found = self.until(lambda: self.call("GET", path)["checkpoint"], {"deleted", "error-deleting"})
        assert found["status"] == "deleted", json.dumps(found, indent=1)

    def until(self, look, ended=frozenset(ENDED), seconds=280.0):
        end = time.monotonic() + seconds
        while (found := look())["status"] not in ended:
            assert time.monotonic() < end, found
            time.sleep(0.5)
        return found


@pytest.fixture
def service(tmp_path):
    """The service, not yet started: providers are added first."""
    tmp_path.chmod(0o700)
    running = Service(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def client(service, tenant):
    """One fresh tenant at the service. The APIs' web server closes connections that rest, now and then in our face."""
    cloud = tenant.cloud
    for used in (cloud.compute, cloud.block_storage, cloud.image, cloud.network, cloud.object_store):
        used.connect_retries = 3
    return Client(service, tenant)


@pytest.fixture
def other_client(service, new_tenant):
    """Another tenant at the same service."""
    return Client(service, new_tenant())


def new_key(restore, kind):
    """The id of the one resource of a type that a restore made."""
    found = [key.split("#")[1] for key in restore["resources_status"] if key.startswith(kind)]
    assert len(found) == 1, restore
    return found[0]


@pytest.fixture
def made():
    return new_key


@pytest.fixture
def pattern():
    """Known bytes: `pattern(seed, mebibytes)`."""

    def make(seed, mebibytes):
        one = b"".join(hashlib.sha512(f"{seed}-{i}".encode()).digest() for i in range(16384))
        return one * mebibytes

    return make
