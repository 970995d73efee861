"""Protects projects: nothing of their own, but everything below them, in one graph and in the right order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import PROJECT, Resource
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.sdk.op import Look, Op


class ProjectProtection(Protection):
    """The project that the caller is in; a restore goes to the project of whoever asks for it."""

    name = "karbor-project-protection-plugin"
    types = (PROJECT,)

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """Nothing is read of the project itself."""
        return [_item(op, "everything in it is protected by the plugin of its type")]

    def protect_main(self, op: Op) -> None:
        """Keep which project it was."""
        op.save({"project_id": op.project_id, "name": op.resource.name}, location="none", consistency="none")

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """Nothing is made: no service may make projects for tenants."""
        return [_item(op, "its resources are restored into this project")]

    def restore_main(self, op: Op) -> None:
        """The project of whoever restores stands in its place."""
        op.register(Resource(type=PROJECT, id=op.session.project_id, name=op.session.project_name))

    def verify_main(self, op: Op) -> None:
        """There is nothing of its own to read back."""


def _item(op: Look, reason: str) -> PreflightItem:
    return PreflightItem(
        resource=op.resource.key, action="reuse", what=op.resource.name or op.resource.id, reason=reason
    )
