"""The service's processes: one that answers requests, one that works. `standalone` starts both; on a cloud each runs
on as many hosts as wanted.
"""

from __future__ import annotations

import gc
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

import waitress

if TYPE_CHECKING:
    from karbor.app import Application


def serve_api(app: Application) -> None:
    """Answer until SIGTERM; requests under way are given a moment to end."""
    settings = app.settings
    server = waitress.create_server(
        app.wsgi(), host=settings.listen, port=settings.port, threads=settings.api_threads, ident="karbor"
    )
    gc.freeze()  # what start-up made lives as long as the process: no collection need look at it again
    gc.set_threshold(50_000, 20, 50)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    server.run()


def run_worker(app: Application) -> None:
    """Work until SIGTERM; steps under way are given back."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    app.run_worker(stop)


def _leave(_number: int, _frame: object) -> NoReturn:
    """The server's loop ends in order when this reaches it."""
    raise SystemExit(0)
