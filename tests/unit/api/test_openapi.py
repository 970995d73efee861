from __future__ import annotations

import falcon.testing

from karbor.api.routes import ROUTES


def document(app):
    return falcon.testing.TestClient(app).simulate_get("/openapi.json").json


def references(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_route_is_described(app):
    paths = document(app)["paths"]
    assert {(path, method.upper()) for path, item in paths.items() for method in item} == {
        (route.template, route.method) for route in ROUTES
    }


def test_every_reference_leads_somewhere(app):
    text = document(app)
    for reference in set(references(text)):
        assert reference.removeprefix("#/components/schemas/") in text["components"]["schemas"], reference


def test_operation_ids_are_unique(app):
    ids = [operation["operationId"] for item in document(app)["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
