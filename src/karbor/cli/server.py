"""The way from the client to what only the extra `karbor[server]` brings."""

from __future__ import annotations

import importlib
from typing import Any

from karbor.errors import Unavailable


def server(module: str) -> Any:
    """A module of the service; raises `Unavailable` naming what is missing where only the client is installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"this command needs the service, and {error.name} is not installed",
            hint="pip install 'karbor[server]'",
        ) from error
