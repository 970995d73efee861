"""Where the service is, and how a request reaches it."""

from __future__ import annotations

import argparse
import http.client
import io
import subprocess
import sys

import pytest
from keystoneauth1 import exceptions

from karbor.cli import client, transport
from karbor.cli.connection import add_options, connect, standalone_address, state_folder
from karbor.cli.terminal import Terminal
from karbor.cli.transport import Address, TokenTransport
from karbor.errors import InvalidInput, NotAuthenticated, Unavailable


def options(*argv):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser)
    return parser.parse_args(argv)


class Connection:
    """An `http.client.HTTPConnection` that answers from a list."""

    def __init__(self, log, answers):
        self.log, self.answers = log, answers

    def __call__(self, host, port, **_):
        self.log.append(("connect", host, port))
        return self

    def request(self, method, path, body=None, headers=None):
        self.log.append((method, path, headers["X-Auth-Token"]))

    def getresponse(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        response = io.BytesIO(answer)
        response.status = 200
        response.getheaders = lambda: [("X-Id", "1")]
        return response

    def close(self):
        self.log.append(("close",))


@pytest.fixture
def wire(monkeypatch):
    def make(*answers):
        log = []
        monkeypatch.setattr(transport.http.client, "HTTPConnection", Connection(log, list(answers)))
        places = iter([Address(f"http://h:{port}/v1/p/", "secret") for port in range(1, 9)])
        return TokenTransport(lambda: next(places), timeout=1, tls=lambda: None), log

    return make


def test_reading_keeps_its_connection(wire):
    made, log = wire(b"a", b"b")
    assert made.request("GET", "/plans").body == b"a"
    assert made.request("GET", "/plans").headers == {"x-id": "1"}
    assert log == [("connect", "h", 1), *[("GET", "/v1/p/plans", "secret")] * 2]


def test_reading_is_repeated_once_where_the_service_may_have_moved(wire):
    made, log = wire(b"a", http.client.RemoteDisconnected("gone"), b"b")
    made.request("GET", "/a")
    assert made.request("GET", "/b").body == b"b"
    assert ("connect", "h", 2) in log


def test_what_changes_something_is_sent_once(wire):
    made, log = wire(b"a", ConnectionResetError(104, "Connection reset by peer"))
    made.request("GET", "/a")
    with pytest.raises(Unavailable, match="no answer from http://h:2/v1/p/: Connection reset by peer"):
        made.request("POST", "/b", body=b"{}")
    assert [entry for entry in log if entry[0] == "POST"] == [("POST", "/v1/p/b", "secret")]


def test_an_address_that_is_none_is_refused():
    made = TokenTransport(lambda: Address("localhost:8799"), timeout=1, tls=lambda: None)
    with pytest.raises(InvalidInput, match="'localhost:8799' is not the address of a service"):
        made.request("GET", "/")


def test_an_address_never_shows_its_token():
    assert "secret" not in repr(Address("http://h", "secret"))


def test_a_standalone_service_is_found_by_its_folder(tmp_path):
    with pytest.raises(Unavailable, match=r"no running service in .*: No such file"):
        standalone_address(tmp_path)
    (tmp_path / "endpoint").write_text("http://127.0.0.1:1/v1/p\n")
    (tmp_path / "token").write_text("t\n")
    assert standalone_address(tmp_path) == Address("http://127.0.0.1:1/v1/p", "t")


def test_options_count_before_the_environment(tmp_path):
    environ = {"KARBOR_STATE": str(tmp_path / "a"), "KARBOR_ENDPOINT": "http://e"}
    assert state_folder(options(), environ) == tmp_path / "a"
    assert state_folder(options("--state", "b"), environ).name == "b"
    assert state_folder(options("--endpoint", "http://x"), environ) is None
    assert state_folder(options("--os-auth-url", "http://k"), environ) is None
    assert isinstance(connect(options(), {"KARBOR_ENDPOINT": "http://e"}), TokenTransport)


def test_saying_nothing_is_an_error_that_says_what_to_say():
    with pytest.raises(InvalidInput) as error:
        connect(options(), {})
    assert "--state DIR" in error.value.hint


def test_keystone_needs_what_its_plugin_needs():
    environ = {"OS_AUTH_URL": "http://k/v3", "OS_PASSWORD": "pw", "OS_USERNAME": "u", "OS_PROJECT_NAME": "p"}
    assert type(connect(options(), environ)).__name__ == "KeystoneTransport"
    with pytest.raises(InvalidInput, match=r"Keystone: .*nosuch"):
        connect(options("--os-auth-type", "nosuch"), environ)


def test_a_password_is_asked_for_only_where_somebody_is(monkeypatch):
    environ = {"OS_AUTH_URL": "http://k/v3", "OS_USERNAME": "u"}
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(InvalidInput, match="Keystone wants a password"):
        connect(options(), environ)


def test_starting_costs_nothing_that_is_not_used():
    """Each of these costs more than all the rest of the command."""
    heavy = (
        "keystoneauth1",
        "requests",
        "rich",
        "yaml",
        "unittest",
        "falcon",
        "sqlalchemy",
        "karbor.app",
        "karbor.domain",
    )
    code = f"import sys, karbor.cli.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_old_client_beside_it_is_warned_of(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(client.metadata, "version", lambda name: {"python-karborclient": "2.1.0"}[name])
    client.warn_of_namesake(Terminal(io.StringIO(), io.StringIO(), said))
    assert said.getvalue().startswith("warning: python-karborclient 2.1.0 is installed")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (exceptions.Unauthorized("expired"), NotAuthenticated),
        (exceptions.EndpointNotFound("data-protect"), Unavailable),
        (exceptions.ConnectFailure("refused"), Unavailable),
    ],
)
def test_what_keystone_says_has_a_name_of_ours(monkeypatch, raised, expected):
    made = connect(options(), {"OS_AUTH_URL": "http://k/v3", "OS_PASSWORD": "pw", "OS_USERNAME": "u"})

    def refuse(*_, **__):
        raise raised

    monkeypatch.setattr(made._adapter, "request", refuse)
    with pytest.raises(expected):
        made.request("GET", "/plans")
