"""The repositories of this process: one per provider and project, opened at first use with a derived passphrase."""

from __future__ import annotations

import base64
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from karbor.bank.vault.repository import Repository
from karbor.errors import ObjectExists, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from karbor.domain.clock import Clock, Randomness
    from karbor.providers import Provider

GENERATION = 1


def prefix_of(provider_id: str, project_id: str) -> str:
    """Where the repository of a project lies in the provider's bank."""
    return f"{provider_id}/{project_id}-g{GENERATION}/"


class Vaults:
    """Opens and keeps repositories. `derive(root_key, info)` is the key derivation of `karbor.bank.rootkey`."""

    def __init__(
        self,
        root_key_of: Callable[[Provider], bytes],
        derive: Callable[[bytes, str], bytes],
        clock: Clock,
        random: Randomness,
        *,
        cache: Path | None = None,
        alone: Callable[[str, str, Callable[[], None]], None] = lambda _provider, _project, work: work(),
    ) -> None:
        """`cache` is where indexes are kept; `alone` does something for a (provider, project) that no other process
        does at the same time: not every store can promise that of two makers of a repository one is refused."""
        self._root_key_of, self._derive = root_key_of, derive
        self._clock, self._random = clock, random
        self._cache, self._alone = cache, alone
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], Repository] = {}

    def passphrase(self, provider: Provider, project_id: str) -> str:
        """The service's own passphrase for a repository: derived, stored nowhere."""
        secret = self._derive(self._root_key_of(provider), prefix_of(provider.id, project_id))
        return base64.b64encode(secret).decode()

    def open(self, provider: Provider, project_id: str) -> Repository:
        """The repository of a project; `ObjectMissing` where nothing was ever protected there."""
        with self._lock:
            known = self._open.get((provider.id, project_id))
            if known is None:
                known = self._open_one(provider, project_id)
                self._open[(provider.id, project_id)] = known
            return known

    def ensure(self, provider: Provider, project_id: str) -> Repository:
        """The repository of a project, made now if it does not exist."""
        with suppress(ObjectMissing):
            return self.open(provider, project_id)
        self._alone(provider.id, project_id, lambda: self._create(provider, project_id))
        return self.open(provider, project_id)

    def _create(self, provider: Provider, project_id: str) -> None:
        with suppress(ObjectExists):  # another process was faster
            Repository.create(
                provider.bank,
                prefix_of(provider.id, project_id),
                self.passphrase(provider, project_id),
                clock=self._clock,
                random=self._random.token,
            )

    def forget(self) -> None:
        """Open everything anew at the next use."""
        with self._lock:
            self._open.clear()

    def _open_one(self, provider: Provider, project_id: str) -> Repository:
        try:
            return Repository.open(
                provider.bank,
                prefix_of(provider.id, project_id),
                self.passphrase(provider, project_id),
                clock=self._clock,
                random=self._random.token,
                cache_dir=self._cache,
            )
        except ObjectMissing as error:
            raise ObjectMissing(error.key, hint=f"is {provider.bank.location} the bank that it was?") from error
