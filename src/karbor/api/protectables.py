"""Handlers: what there is to protect."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from karbor.api.listing import page_in_memory
from karbor.errors import InvalidInput
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.domain.resource import Resource
    from karbor.protection.inventory import Instance
    from karbor.protection.service import ProtectionService

_SORTABLE = frozenset({"id", "name", "status", "created_at"})


def list_types(service: ProtectionService, call: Call) -> list[str]:
    """The resource types that can be protected."""
    del call  # the same for every caller
    return service.types()


def show_type(service: ProtectionService, call: Call) -> answers.ProtectableType:
    """A resource type and what it depends on."""
    kind = _known(service, call.path["type"])
    return answers.ProtectableType(name=kind, dependent_types=service.dependent_types(kind))


def list_instances(service: ProtectionService, call: Call) -> list[answers.Instance]:
    """The caller's resources of a type, with what each directly depends on."""
    kind = _known(service, call.path["type"])
    _check_parameters(call)
    found = service.instances(call.caller, kind)
    return page_in_memory([_instance(instance) for instance in found], call, _ident, _SORTABLE)


def show_instance(service: ProtectionService, call: Call) -> answers.Instance:
    """One resource, with what it directly depends on."""
    kind = _known(service, call.path["type"])
    _check_parameters(call)
    return _instance(service.instance(call.caller, kind, call.path["instance"]))


def _known(service: ProtectionService, kind: str) -> str:
    types = service.types()
    if kind not in types:
        raise InvalidInput("Invalid protectable type provided.", field="type", hint=f"known types: {', '.join(types)}")
    return kind


def _check_parameters(call: Call) -> None:
    """v1's clients send Python's text of a mapping; nothing reads it, but what is none is refused."""
    if "parameters" in call.query:
        try:
            given = ast.literal_eval(call.query["parameters"])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise InvalidInput("The parameters must be a dict.", field="parameters")


def _ident(instance: answers.Instance) -> str:
    return instance.id


def _instance(instance: Instance) -> answers.Instance:
    own = instance.resource
    return answers.Instance(
        id=own.id,
        type=own.type,
        name=own.name,
        extra_info=own.extra_info,
        dependent_resources=[_dependent(resource) for resource in instance.dependents],
    )


def _dependent(own: Resource) -> answers.Dependent:
    return answers.Dependent(id=own.id, type=own.type, name=own.name, extra_info=own.extra_info)
