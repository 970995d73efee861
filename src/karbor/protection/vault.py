"""`op.vault`: the vault of one resource, with everything written recorded in the journal.

A write that is recorded is durable in the bank and is not done again by a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from karbor.bank.checkpoints import resource_tree
from karbor.bank.vault.resource_vault import ResourceVault
from karbor.sdk.vault import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from karbor.protection.op import WorkingOp
    from karbor.protection.run import RunContext
    from karbor.sdk.vault import (
        ImageReader,
        ImageSource,
        ImageTarget,
        Restored,
        RestoreOptions,
        TreeOptions,
        Verified,
    )

    Report = Callable[[int, int], None]

WRITTEN = "written"


class RecordingVault:
    """Implements `karbor.sdk.vault.Vault` for a hook at work."""

    def __init__(self, context: RunContext, key: str, op: WorkingOp) -> None:
        self._context, self._key, self._op = context, key, op
        self._writes = 0

    def write_image(
        self,
        source: ImageSource,
        *,
        changed: Iterable[tuple[int, int]] | None = None,
        progress: Report | None = None,
    ) -> Written:
        """Store an image."""
        return self._write(lambda vault: vault.write_image(source, changed=changed, progress=self._report(progress)))

    def write_stream(self, source: Iterable[bytes], *, progress: Report | None = None) -> Written:
        """Store a stream."""
        return self._write(lambda vault: vault.write_stream(source, progress=self._report(progress)))

    def write_tree(self, root: int, options: TreeOptions, *, progress: Report | None = None) -> Written:
        """Store a directory."""
        return self._write(lambda vault: vault.write_tree(root, options, progress=self._report(progress)))

    def image(self) -> ImageReader:
        """Random access to the stored image or stream."""
        return self._stored().image()

    def restore_image(self, target: ImageTarget, *, progress: Report | None = None) -> Restored:
        """Write the stored image to a target."""
        return self._stored().restore_image(target, progress=self._report(progress))

    def read_stream(self) -> Iterator[bytes]:
        """The stored stream."""
        return self._stored().read_stream()

    def restore_tree(
        self, target: int, options: RestoreOptions, *, path: str = "", progress: Report | None = None
    ) -> Restored:
        """Write the stored tree below a directory."""
        return self._stored().restore_tree(target, options, path=path, progress=self._report(progress))

    def verify(self, *, progress: Report | None = None) -> Verified:
        """Read everything back."""
        return self._stored().verify(progress=self._report(progress))

    def _write(self, work: Callable[[ResourceVault], Written]) -> Written:
        """The first write of a replayed hook is the recorded one; a hook that writes again replaces it."""
        known = self._op.recall(WRITTEN)
        self._writes += 1
        if known is not None and self._writes == 1:
            return msgspec.json.decode(known, type=Written)
        context = self._context
        previous = context.previous.get(self._key)
        with context.repository.writer(context.provider.compression) as writer:
            vault = ResourceVault(
                context.repository,
                writer,
                previous_tree=bytes.fromhex(previous) if previous else None,
                chunk_size=context.provider.chunk_size,
            )
            written = work(vault)
        self._op.keep(WRITTEN, written)
        return written

    def _stored(self) -> ResourceVault:
        context = self._context
        tree = resource_tree(context.manifest, self._key)
        return ResourceVault(context.repository, None, data_tree=tree)

    def _report(self, own: Report | None) -> Report:
        def report(done: int, total: int) -> None:
            if own is not None:
                own(done, total)
            self._op.progress(done, total)

        return report
