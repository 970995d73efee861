"""A service in memory, and the command as a function: argument list in, exit code and both outputs back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import pytest

from karbor.cli.client import program
from karbor.cli.terminal import Terminal
from karbor.cli.transport import Answer
from karbor.errors import KarborError
from karbor.wire.faults import Fault, fault_body

if TYPE_CHECKING:
    from collections.abc import Callable

PROVIDER = "cf56bd3e-97a7-4078-b6d5-f36246333fd9"
PLAN = "0a1b2c3d-0000-4000-8000-000000000001"
OTHER_PLAN = "0a1bffff-0000-4000-8000-000000000002"
CHECKPOINT = "c0ffee00-0000-4000-8000-000000000003"
DIRECTORY = "d1d1d1d1-0000-4000-8000-000000000004"
DATABASE = "dbdbdbdb-0000-4000-8000-000000000005"


class Request(msgspec.Struct):
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Service:
    """Answers by (method, path): with a value, an `Answer`, an error, or what a function of the request returns."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Any] = {}
        self.seen: list[Request] = []

    def on(self, method: str, path: str, answer: Any) -> None:
        self.routes[method, path] = answer

    def collection(self, name: str, items: list[dict[str, Any]], envelope: str = "") -> None:
        """A list in pages, as the service cuts it, and each of its items."""

        def page(request: Request) -> Any:
            after = request.query.get("marker")
            begin = next((i + 1 for i, item in enumerate(items) if item["id"] == after), 0)
            return {name.rpartition("/")[2]: items[begin : begin + int(request.query["limit"])]}

        self.on("GET", f"/{name}", page)
        for item in items if envelope else ():
            self.on("GET", f"/{name}/{item['id']}", {envelope: item})

    def request(self, method: str, path: str, *, body: bytes | None = None, headers: Any = None) -> Answer:
        parts = urlsplit(path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape"))
        content = msgspec.json.decode(body) if body else None
        request = Request(method, unquote(parts.path), query, content, dict(headers or {}))
        self.seen.append(request)
        answer = self.routes.get((method, request.path), Fault(code=404, message=f"no {method} {path}"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, KarborError):
            raise answer
        if isinstance(answer, Answer):
            return answer
        if isinstance(answer, Fault):
            return Answer(status=answer.code, headers={}, body=msgspec.json.encode(fault_body(answer)))
        return Answer(status=200, headers={}, body=msgspec.json.encode(answer))

    def sent(self, method: str) -> list[Request]:
        return [request for request in self.seen if request.method == method]


class Typed(io.StringIO):
    """A stream that is or is not a terminal."""

    def __init__(self, text: str = "", *, tty: bool = False) -> None:
        super().__init__(text)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class Result(msgspec.Struct):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


@pytest.fixture
def service() -> Service:
    made = Service()
    made.on("GET", "/protectables", {"protectable_type": ["Karbor::Host::Application", "Karbor::Host::Directory"]})
    plans = [plan(PLAN, "web"), plan(OTHER_PLAN, "db")]
    made.collection("providers", [{"id": PROVIDER, "name": "host", "description": ""}], "provider")
    made.collection("plans", plans, "plan")
    made.collection(f"providers/{PROVIDER}/checkpoints", [checkpoint()], "checkpoint")
    return made


@pytest.fixture
def karbor(service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command; `answer` is what somebody at a terminal types, None where nobody is there."""
    monkeypatch.setenv("TERM", "dumb")

    def run(*argv: str, answer: str | None = None) -> Result:
        tty = answer is not None
        stdin, out, err = Typed(answer or "", tty=tty), Typed(tty=tty), Typed(tty=tty)
        app = program(Terminal(stdin, out, err), lambda *_: service)
        app.configure_logging = lambda: None  # the test's logging is pytest's
        now = [0.0]
        app.session.monotonic = lambda: now[0]
        app.session.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
        try:
            code = app.run(list(argv))
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, out.getvalue(), err.getvalue())

    return run


def plan(ident: str, name: str) -> dict[str, Any]:
    return {
        "id": ident,
        "name": name,
        "description": None,
        "provider_id": PROVIDER,
        "status": "suspended",
        "resources": [],
        "parameters": {},
    }


def checkpoint(**changes: Any) -> dict[str, Any]:
    graph = [
        {
            "0x0": ["Karbor::Host::Directory", DIRECTORY, "/srv/www", None],
            "0x1": ["Karbor::Host::Database", DATABASE, "/srv/shop.db", None],
        },
        [],
    ]
    return {
        "id": CHECKPOINT,
        "project_id": "p",
        "status": "available",
        "protection_plan": {"id": PLAN, "name": "web", "provider_id": PROVIDER, "resources": []},
        "resource_graph": msgspec.json.encode(graph).decode(),
        "created_at": "2026-11-22",
        "created_at_precise": "2026-11-22T10:00:00Z",
        "extra_info": '{"created_by": "manual"}',
        "resources_status": {f"Karbor::Host::Directory#{DIRECTORY}": "available"},
        "resources_reason": {},
        "logical_bytes": 1536,
        **changes,
    }
