"""Serves one OpenStack API: `wsgi.py NAME PORT MODULE | paste:FILE [argument…]`, one gunicorn process with threads.

The further arguments are what the application finds in sys.argv: several services parse their options there.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from gunicorn.app.base import BaseApplication

NAME, PORT, TARGET, *ARGUMENTS = sys.argv[1:]


class Api(BaseApplication):
    """Loads the application in the worker, so that a crash at import shows in the service's own log."""

    def load_config(self) -> None:
        """Loopback only; no control socket, because gunicorn would share one between all masters of a HOME."""
        settings = {
            "bind": f"127.0.0.1:{PORT}",
            "proc_name": NAME,
            "worker_class": "gthread",
            "threads": 12,
            "timeout": 600,
            "graceful_timeout": 5,
            "control_socket_disable": True,
            "limit_request_field_size": 65536,
            "limit_request_line": 0,
        }
        for key, value in settings.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """The WSGI application: `application` of a module, or the main pipeline of a paste file."""
        sys.argv = [NAME, *ARGUMENTS]
        if TARGET.startswith("paste:"):
            return importlib.import_module("paste.deploy").loadapp("config:" + TARGET.removeprefix("paste:"))
        return importlib.import_module(TARGET).application


if __name__ == "__main__":
    Api().run()
