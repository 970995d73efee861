"""Protects volumes by Cinder snapshots: quick, and lost together with the volume's back end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.resource import VOLUME
from karbor.errors import ResourceFailed
from karbor.plugins.volume import described
from karbor.plugins.volume.described import VolumeRestore
from karbor.plugins.waiting import Pace, leftover
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.domain.preflight import PreflightItem
    from karbor.sdk.op import Look, Op


class SnapshotOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a protect."""

    snapshot_name: Annotated[
        str | None, msgspec.Meta(title="Snapshot Name", description="The name of the snapshot.")
    ] = None
    description: Annotated[
        str | None, msgspec.Meta(title="Description", description="The description of the snapshot.")
    ] = None
    force: Annotated[bool, msgspec.Meta(title="Force", description="Also of a volume that is attached.")] = False


class SnapshotProtection(Protection):
    """The data stays on the volume's back end, and the volume cannot be deleted while it has snapshots."""

    name = "karbor-volume-snapshot-plugin"
    section = "volume_snapshot_plugin"
    types = (VOLUME,)
    protect_options = SnapshotOptions
    restore_options = VolumeRestore
    settle_seconds = 20.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pace = Pace(options)

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """One snapshot, which stays."""
        return described.preflight_protect(op, "by a snapshot, which stays in the back end")

    def protect_prepare_finish(self, op: Op) -> None:
        """Snapshot the volume; those of all volumes are made before anything else begins."""
        volume = described.describe(op)
        described.usable(op, self._pace)
        name = op.options["snapshot_name"] or f"{op.checkpoint_id}@{volume['name'] or op.resource.id}"
        ident = described.snapshot(op, self._pace, name=name, description=op.options["description"] or "")
        op.save({"volume": volume, "snapshot_id": ident}, location="cloud snapshot", consistency="crash")

    def protect_undo(self, op: Op) -> None:
        """Remove the snapshot."""
        ident = leftover(op, "snapshot", lambda tag: described.find_snapshot(op, tag))
        if ident:
            described.remove_snapshot(op, self._pace, ident)

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """One volume."""
        return described.preflight_restore(op)

    def restore_main(self, op: Op) -> None:
        """Make a volume from the snapshot."""
        described.finish(op, described.new_volume(op, self._pace, snapshot_id=op.saved["snapshot_id"]))

    def restore_undo(self, op: Op) -> None:
        """Remove the volume."""
        ident = leftover(op, "new volume", lambda tag: described.find_volume(op, tag))
        if ident:
            described.remove_volume(op, self._pace, ident)

    def verify_main(self, op: Op) -> None:
        """Say that it cannot be: Cinder tells a status, which proves nothing."""
        found = op.session.connection.block_storage.get_snapshot(op.saved["snapshot_id"])
        raise ResourceFailed(
            f"not verifiable: snapshot {found.id} is {found.status}, but its bytes lie outside the vault",
            hint="a test restore proves it",
        )

    def delete_main(self, op: Op) -> None:
        """Delete the snapshot."""
        described.remove_snapshot(op, self._pace, op.saved["snapshot_id"])
