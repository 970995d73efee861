"""Handlers: what the administrator offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.api.listing import page_in_memory
from karbor.wire import answers

if TYPE_CHECKING:
    from karbor.api.route import Call
    from karbor.protection.offer import ProviderView
    from karbor.protection.service import ProtectionService

_SORTABLE = frozenset({"id", "name", "description", "status", "created_at"})


def list_providers(service: ProtectionService, call: Call) -> list[answers.Provider]:
    """The providers that the caller's project may use, by id where no order is asked for."""
    wanted = {name: call.query[name] for name in ("name", "description") if name in call.query}
    views = [
        view
        for view in sorted(service.providers(call.caller), key=lambda view: view.id)
        if all(getattr(view, name) == value for name, value in wanted.items())
    ]
    return [_provider(view) for view in page_in_memory(views, call, lambda view: view.id, _SORTABLE)]


def show_provider(service: ProtectionService, call: Call) -> answers.Provider:
    """One provider, with the forms of its options."""
    return _provider(service.provider(call.caller, call.path["provider_id"]))


def list_problems(service: ProtectionService, call: Call) -> dict[str, str]:
    """Why a file of `providers.d` offers nothing, by its name."""
    del call  # the same for every administrator
    return service.provider_problems()


def _provider(view: ProviderView) -> answers.Provider:
    return answers.Provider(
        id=view.id,
        name=view.name,
        description=view.description,
        extended_info_schema=answers.Schemas(
            options_schema=view.options_schema,
            restore_schema=view.restore_schema,
            saved_info_schema=view.saved_info_schema,
            verify_schema=view.verify_schema,
        ),
        bank=view.bank,
        problems=list(view.problems),
    )
