"""The WSGI application: the route table behind Falcon's router, with what holds for every request.

One request: id → token → parsing → policy → one handler → JSON. Whatever is raised on the way becomes a fault.
"""

from __future__ import annotations

import functools
import logging
import uuid
from contextlib import contextmanager, nullcontext
from threading import Semaphore
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import falcon
import msgspec

from karbor.api import faults, parsing
from karbor.api.listing import next_links
from karbor.api.route import Call, Content, Route, Services
from karbor.api.routes import ROUTES
from karbor.errors import InvalidInput, NotFound, OverLimit, Unavailable
from karbor.protection.catalogue import MAX_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from karbor.api.auth import Authenticator
    from karbor.api.policy import Policy
    from karbor.domain.clock import Clock
    from karbor.domain.context import Caller

App = falcon.App[falcon.Request, falcon.Response]

MAX_BODY = 1 << 20
CLOUD_SLOTS = 4
BLOCK = 1 << 20
"""Bytes that are read from a checkpoint at a time."""
_ACCESS = logging.getLogger("karbor.api.access")


def new_request_id() -> str:
    """An id as OpenStack's services write them."""
    return f"req-{uuid.uuid4()}"


def build_application(
    services: Services,
    authenticator: Authenticator,
    policy: Policy,
    *,
    clock: Clock,
    max_body: int = MAX_BODY,
    max_limit: int = MAX_LIMIT,
    cloud_slots: int = CLOUD_SLOTS,
    public_url: str = "",
    request_ids: Callable[[], str] = new_request_id,
    routes: tuple[Route, ...] = ROUTES,
) -> App:
    """The application. `public_url` replaces what requests say the service's address is, in links; `max_body` is in
    bytes, `max_limit` the most records in one answer, `cloud_slots` how many requests may wait for a foreign service at once.
    """
    app = falcon.App(middleware=[_Edges(authenticator, policy, clock, request_ids)])
    app.req_options.strip_url_path_trailing_slash = True
    faults.install(app, authenticator.challenge)
    limits = _Limits(
        max_body=max_body,
        max_limit=min(max_limit, MAX_LIMIT),
        public_url=public_url.rstrip("/"),
        cloud_slots=Semaphore(cloud_slots),
    )
    for template in dict.fromkeys(route.template for route in routes):
        rows = [route for route in routes if route.template == template]
        app.add_route(template, _resource([_Endpoint(row, services, policy, limits) for row in rows]))
    return app


class _Edges:
    """What happens first and last: request id, token, headers, access log."""

    def __init__(
        self, authenticator: Authenticator, policy: Policy, clock: Clock, request_ids: Callable[[], str]
    ) -> None:
        self._authenticator = authenticator
        self._policy = policy
        self._clock = clock
        self._request_ids = request_ids

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Find the caller; everything at or below ``/v1`` needs one."""
        req.context.started = self._clock.monotonic()
        req.context.request_id = request_id = self._request_ids()
        req.context.caller = None
        resp.set_header("X-Openstack-Request-Id", request_id)
        resp.set_header("x-compute-request-id", request_id)
        if req.path == "/v1" or req.path.startswith("/v1/"):
            req.path = req.path.removesuffix(".json")
            caller = msgspec.structs.replace(self._authenticator.authenticate(req.headers), request_id=request_id)
            req.context.caller = msgspec.structs.replace(caller, is_admin=self._policy.is_admin(caller))

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: Any, _ok: bool) -> None:
        """One line per request; never its query or body, which may hold what is nobody's business."""
        caller: Caller | None = req.context.caller
        _ACCESS.info(
            "%s %s %s %.1f ms %s user=%s project=%s",
            req.method,
            req.path,
            resp.status_code,
            (self._clock.monotonic() - req.context.started) * 1000,
            req.context.request_id,
            caller.user_id if caller else "-",
            caller.project_id if caller else "-",
        )


class _Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every route."""

    max_body: int
    max_limit: int
    public_url: str
    cloud_slots: Semaphore


class _Endpoint:
    """One row at work."""

    def __init__(self, route: Route, services: Services, policy: Policy, limits: _Limits) -> None:
        self.route = route
        self._decoder = msgspec.json.Decoder(route.request_type) if route.request_type else None
        self._service = getattr(services, route.service)
        self._policy = policy
        self._limits = limits

    def __call__(self, req: falcon.Request, resp: falcon.Response, **elements: str) -> None:
        """Answer one request."""
        call = self._call(req, elements)
        for rule in self._rules(call):
            self._policy.check(rule, call.caller)
        resp.status = self.route.status
        dry_run = self.route.preflight if call.query.get("dry_run") else None
        with self._slot() if self.route.asks_cloud or dry_run else nullcontext():
            answer = (dry_run or self.route.handler)(self._service, call)
        if dry_run:
            resp.data = msgspec.json.encode({"preflight": answer})
        elif isinstance(answer, Content):
            _stream(req, resp, answer)
        else:
            resp.data = self._document(req, call, answer)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Requests that wait for a cloud leave threads to those that do not."""
        slots = self._limits.cloud_slots
        if not slots.acquire(blocking=False):
            raise Unavailable("too many requests are waiting for the cloud", hint="try again in some seconds")
        try:
            yield
        finally:
            slots.release()

    def _call(self, req: falcon.Request, elements: dict[str, str]) -> Call:
        route, caller = self.route, req.context.caller
        if "project_id" in elements and elements["project_id"] != caller.project_id:
            raise InvalidInput("Malformed request url", hint="the project in the address must be the token's")
        path = parsing.path(route, elements)
        query, unknown = parsing.query(route, req.query_string)
        body = None
        if self._decoder:
            body = parsing.body(self._decoder, req.content_type, self._read(req))
            body = getattr(body, route.body_key.replace("-", "_")) if route.body_key else body
        url = self._limits.public_url or f"{req.scheme}://{req.netloc}{req.root_path}"
        return Call(
            caller=caller, path=path, query=query, unknown=unknown, body=body, url=url, max_limit=self._limits.max_limit
        )

    def _read(self, req: falcon.Request) -> bytes:
        stream = req.stream if req.env.get("wsgi.input_terminated") else req.bounded_stream
        most = self._limits.max_body
        data: bytes = b"" if (req.content_length or 0) > most else stream.read(most + 1)
        if (req.content_length or len(data)) > most:
            raise OverLimit(f"the request body is larger than {most} bytes")
        return data

    def _rules(self, call: Call) -> Iterable[str]:
        if self.route.rule:
            yield self.route.rule
        if self.route.rules_of_body:
            yield from self.route.rules_of_body(call.body)
        if self.route.rules_of_call:
            yield from self.route.rules_of_call(self._service, call)

    def _document(self, req: falcon.Request, call: Call, answer: Any) -> bytes:
        route = self.route
        if route.reply is None:
            return b""
        document = {route.key: answer} if route.key else answer
        if route.page:
            pairs = parse_qsl(req.query_string, keep_blank_values=True)
            links = next_links(answer, call, pairs, req.path)
            document |= {f"{route.key}_links": links} if links else {}
        return msgspec.json.encode(document)


def _resource(endpoints: list[_Endpoint]) -> SimpleNamespace:
    """What Falcon calls. v1's router knew PUT and DELETE for every single thing, and answered 404 where nothing served
    them; any other method is 405.
    """
    resource = SimpleNamespace()
    route = endpoints[0].route
    if route.since == "v1" and route.path.endswith("_id}"):
        resource.on_put = resource.on_delete = _missing
    for endpoint in endpoints:
        setattr(resource, f"on_{endpoint.route.method.lower()}", endpoint.__call__)
    allowed = ", ".join(endpoint.route.method for endpoint in endpoints)
    resource.on_options = functools.partial(_allowed, allowed)
    return resource


def _allowed(methods: str, req: falcon.Request, resp: falcon.Response, **_elements: str) -> None:
    del req  # the same for everyone
    resp.set_header("Allow", methods)


def _missing(req: falcon.Request, resp: falcon.Response, **_elements: str) -> None:
    del req, resp  # whatever was asked
    raise NotFound("The resource could not be found.")


def _stream(req: falcon.Request, resp: falcon.Response, content: Content) -> None:
    """The bytes, or the range that was asked for (RFC 9110, section 14); several ranges get the whole."""
    first, last = 0, content.size - 1
    wanted = _range(req)
    if wanted:
        first, last = _bounds(wanted, content.size)
        resp.status = 206
        resp.set_header("Content-Range", f"bytes {first}-{last}/{content.size}")
    resp.content_type = "application/octet-stream"
    resp.set_header("Accept-Ranges", "bytes")
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.set_stream(_blocks(content, first, last + 1), last + 1 - first)


def _range(req: falcon.Request) -> tuple[int, int] | None:
    if req.range_unit != "bytes" or "," in (req.get_header("Range") or ""):
        return None
    return req.range


def _bounds(wanted: tuple[int, int], size: int) -> tuple[int, int]:
    first, last = wanted
    if first < 0:
        first, last = max(size + first, 0), size - 1
    if last < 0 or last >= size:
        last = size - 1
    if first >= size:
        raise falcon.HTTPRangeNotSatisfiable(size)
    return first, last


def _blocks(content: Content, position: int, end: int) -> Iterator[bytes]:
    while position < end:
        block = content.read(position, min(BLOCK, end - position))
        if not block:
            return
        yield block
        position += len(block)
