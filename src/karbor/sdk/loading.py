"""Plugins by entry points: built-ins load exactly as strangers do; one that fails to load is a fact to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from stevedore.extension import ExtensionManager

PROTECTABLES = "karbor.protectables"
PROTECTIONS = "karbor.protections"
BANKS = "karbor.banks"


class Loaded(msgspec.Struct, frozen=True):
    """What was found in one entry-point group: plugins by name, and why others did not load."""

    plugins: Mapping[str, Any]
    problems: Mapping[str, str]


def load(group: str) -> Loaded:
    """Import every plugin of a group."""
    problems: dict[str, str] = {}

    def failed(_manager: object, entry_point: Any, error: BaseException) -> None:
        problems[entry_point.name] = f"{entry_point.value}: {type(error).__name__}: {error}"

    manager: Any = ExtensionManager(group, invoke_on_load=False, on_load_failure_callback=failed)
    return Loaded(plugins={extension.name: extension.plugin for extension in manager}, problems=problems)
