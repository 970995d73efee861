"""What a command works with: the API, the terminal, and the passing of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.cli.api import Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from karbor.cli.terminal import Terminal
    from karbor.cli.transport import Transport


class Session:
    """One run of the command. The service is reached at the first use of `api`, so that a command that needs none
    asks for no address.
    """

    def __init__(
        self,
        connect: Callable[[], Transport],
        terminal: Terminal,
        *,
        state: Callable[[], Path | None],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._connect = connect
        self._state = state
        self._api: Api | None = None
        self.terminal = terminal
        self.monotonic = monotonic
        self.sleep = sleep

    @property
    def state(self) -> Path | None:
        """The folder of the standalone service that is meant, if one is."""
        return self._state()

    @property
    def api(self) -> Api:
        """The API of the service; raises `InvalidInput` where no address was given."""
        if self._api is None:
            self._api = Api(self._connect())
        return self._api
