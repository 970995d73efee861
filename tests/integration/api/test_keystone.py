"""The application behind the real keystonemiddleware, which asks a small Keystone on loopback about tokens."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import falcon.testing
import pytest
from oslo_config import cfg

from karbor.api.application import build_application
from karbor.api.keystone import KeystoneAuth, behind_keystone
from karbor.api.policy import OsloPolicy
from karbor.api.route import Services
from karbor.system import SystemClock

P = "1" * 32


class Keystone(BaseHTTPRequestHandler):
    """Identity API v3: discovery, the service's own token, and what the service asks about others."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    @property
    def here(self):
        return f"http://127.0.0.1:{self.server.server_port}/v3/"

    def do_GET(self):
        if self.path.startswith("/v3/auth/tokens"):
            subject = self.headers["X-Subject-Token"]
            self.asked.append(subject)
            scoped, unscoped = token(self.here, ["member", "reader"]), token(self.here, [], project=None)
            known = {"member-token": scoped, "unscoped-token": unscoped}
            self.answer(200 if subject in known else 404, known.get(subject, {"error": {"code": 404}}))
        else:
            version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": self.here}]}
            self.answer(
                200, {"version": version} if self.path.startswith("/v3") else {"versions": {"values": [version]}}
            )

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, token(self.here, ["service"]), {"X-Subject-Token": "service-token"})

    def answer(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Type": "application/json", "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        """Say nothing."""


def token(here, roles, project=P):
    now = dt.datetime.now(dt.UTC)
    body = {
        "methods": ["password"],
        "user": {"id": "u1", "name": "ann", "domain": {"id": "default", "name": "Default"}},
        "issued_at": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "expires_at": (now + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "audit_ids": ["x"],
    }
    if project:
        body["project"] = {"id": project, "name": "demo", "domain": {"id": "default", "name": "Default"}}
        body["roles"] = [{"id": role, "name": role} for role in roles]
        here = {"interface": "internal", "region": "one", "region_id": "one", "id": "e", "url": here}
        body["catalog"] = [{"type": "identity", "name": "keystone", "id": "k", "endpoints": [here]}]
    return {"token": body}


@pytest.fixture(scope="module")
def keystone():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Keystone)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v3"
    server.shutdown()
    thread.join()
    server.server_close()


class Service:
    def types(self):
        return ["OS::Cinder::Volume"]


@pytest.fixture(scope="module")
def client(keystone, tmp_path_factory):
    file = tmp_path_factory.mktemp("conf") / "karbor.conf"
    file.write_text(f"""[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = karbor
password = pass
project_name = service
user_domain_id = default
project_domain_id = default
service_token_roles_required = True
http_request_max_retries = 0
""")
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(file)])
    services = Services(protection=Service(), schedules=None, quotas=None, programs=None)
    app = build_application(services, KeystoneAuth(keystone), OsloPolicy(conf), clock=SystemClock())
    return falcon.testing.TestClient(behind_keystone(app, conf))


def get(client, *, headers=(), **tokens):
    return client.simulate_get(f"/v1/{P}/protectables", headers={**tokens, **dict(headers)})


def test_a_valid_token(client):
    result = get(client, headers={"X-Auth-Token": "member-token"})
    assert result.status_code == 200, result.text


def test_the_cache_asks_once(client):
    for _ in range(3):
        get(client, headers={"X-Auth-Token": "member-token"})
    assert Keystone.asked.count("member-token") == 1


@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": "unknown"}, {"X-Auth-Token": "unscoped-token"}])
def test_without_a_valid_token_for_a_project(client, headers):
    result = get(client, headers=headers)
    assert result.status_code == 401
    assert result.json["unauthorized"]["code"] == 401
    assert re.match(r"Keystone uri=.http://127.0.0.1", result.headers["www-authenticate"])


def test_identity_headers_that_a_client_made_up_are_removed(client):
    forged = {"X-Identity-Status": "Confirmed", "X-User-Id": "u", "X-Project-Id": P, "X-Roles": "admin"}
    assert get(client, headers=forged).status_code == 401
    assert get(client, headers={**forged, "X-Auth-Token": "unknown"}).status_code == 401


def test_a_keystone_that_does_not_answer_is_503(client, keystone, monkeypatch):
    monkeypatch.setattr(Keystone, "do_GET", lambda self: self.connection.shutdown(2))
    result = get(client, headers={"X-Auth-Token": "another"})
    assert result.status_code == 503
    assert result.json["serviceUnavailable"]["code"] == 503


def test_versions_and_health_need_no_token(client):
    assert client.simulate_get("/").status_code == 300
    assert client.simulate_get("/openapi.json").status_code == 200
