"""The OpenAPI 3.1 document, derived from the route table and the wire types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import falcon
import msgspec

import karbor
from karbor.api.route import Content
from karbor.wire import envelope
from karbor.wire.answers import Preflight
from karbor.wire.faults import FAULT_NAMES, OTHER_FAULT, Fault

if TYPE_CHECKING:
    from karbor.api.route import Route

_ALWAYS = (400, 401, 403, 404, 413, 503)
"""Statuses that any route below ``/v1/{project_id}`` may answer with."""
_REF = "#/components/schemas/{name}"


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The whole document, without `servers`."""
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Karbor",
            "version": karbor.__version__,
            "summary": "Data Protection as a Service: the v1 API and what was added to it",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
    }


class _Schemas:
    """JSON schemas of every type that the table names, the shared ones as components."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        types: list[Any] = [Fault, envelope.one("preflight", Preflight)]
        for route in routes:
            types += [route.request_type, route.reply_type, *route.query_types.values()]
        self._types = list({repr(kind): kind for kind in types if kind is not None}.values())
        self._schemas, self.components = msgspec.json.schema_components(self._types, ref_template=_REF)

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type, mostly a reference."""
        return self._schemas[[repr(known) for known in self._types].index(repr(kind))]


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": [*_path_parameters(route), *_query_parameters(route, schemas)],
        "responses": _responses(route, schemas),
    }
    if route.rule:
        operation["description"] = f"Policy rule: `{route.rule}`. Since {route.since}."
    if route.public:
        operation["security"] = []
    if route.request_type:
        content = {"application/json": {"schema": schemas.of(route.request_type)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.reply is Content:
        range_header = {"name": "Range", "in": "header", "required": False, "schema": {"type": "string"}}
        operation["parameters"].append(range_header)
    return operation


def _tag(route: Route) -> str:
    return "service" if route.public else route.path.split("/")[-1 if "checkpoints" in route.path else 1]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [_path_parameter(route, name) for name in re.findall(r"{(\w+)}", route.template)]


def _path_parameter(route: Route, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name.endswith("_id") and name != "project_id" and name not in route.unchecked:
        schema = {"type": "string", "format": "uuid"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": name in route.required, "schema": schemas.of(kind)}
        for name, kind in route.query_types.items()
    ]


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {str(route.status): _success(route, schemas)}
    if route.reply is Content:
        responses["206"] = responses["200"]
    for status in (503,) if route.public else sorted({*_ALWAYS, *route.faults}):
        responses[str(status)] = _fault(status, schemas)
    if route.path == "/v1":
        responses["401"] = _fault(401, schemas)
    responses["500"] = _fault(500, schemas)
    return responses


def _success(route: Route, schemas: _Schemas) -> dict[str, Any]:
    if route.reply is None:
        return {"description": "Done; the body is empty."}
    if route.reply is Content:
        return {"description": "The bytes.", "content": {"application/octet-stream": {}}}
    schema = schemas.of(route.reply_type)
    if route.preflight:
        schema = {"anyOf": [schema, schemas.of(envelope.one("preflight", Preflight))]}
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _fault(status: int, schemas: _Schemas) -> dict[str, Any]:
    name = FAULT_NAMES.get(status, OTHER_FAULT)
    schema = {"type": "object", "properties": {name: schemas.of(Fault)}, "required": [name]}
    phrase = falcon.code_to_http_status(status).partition(" ")[2]
    return {"description": phrase, "content": {"application/json": {"schema": schema}}}
