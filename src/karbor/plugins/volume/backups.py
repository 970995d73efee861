"""Protects volumes by Cinder backups, full or incremental.

Backups of a volume form chains. The base of an increment cannot be deleted: it is marked instead, and goes together
with the last increment that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from karbor.domain.resource import VOLUME
from karbor.errors import ResourceFailed
from karbor.plugins.volume import described
from karbor.plugins.volume.described import VolumeRestore
from karbor.plugins.waiting import TAG, TEMPORARY, Pace, leftover, tagged
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.domain.preflight import PreflightItem
    from karbor.sdk.op import Look, Op

UNWANTED = "karbor-unwanted"
"""The metadata key of a backup that only its increments still need."""
_PASSING = ("creating", "restoring")


class BackupOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a protect."""

    backup_name: Annotated[str | None, msgspec.Meta(title="Backup Name", description="The name of the backup.")] = None
    backup_mode: Annotated[
        Literal["full", "incremental"],
        msgspec.Meta(title="Backup Mode", description="An incremental one needs an earlier one: else it is full."),
    ] = "full"
    container: Annotated[
        str | None, msgspec.Meta(title="Container", description="Where Cinder puts it: else Cinder's own choice.")
    ] = None
    description: Annotated[
        str | None, msgspec.Meta(title="Description", description="The description of the backup.")
    ] = None
    force: Annotated[bool, msgspec.Meta(title="Force", description="Also of a volume that is attached.")] = False


class BackupRestore(VolumeRestore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    volume_id: Annotated[
        str | None,
        msgspec.Meta(title="Volume ID", description="An existing volume, not attached, whose content is replaced."),
    ] = None


class BackupProtection(Protection):
    """The data lies where Cinder's backup service puts it."""

    name = "karbor-volume-protection-plugin"
    section = "cinder_backup_protection_plugin"
    types = (VOLUME,)
    protect_options = BackupOptions
    restore_options = BackupRestore
    settle_seconds = 20.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pace = Pace(options)
        self._from_snapshot = str(options.get("backup_from_snapshot", "True")).lower() in {"true", "1", "yes", "on"}

    # --- protect

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """One backup, which stays."""
        return described.preflight_protect(op, f"by a Cinder backup, {op.options['backup_mode']}")

    def protect_prepare_finish(self, op: Op) -> None:
        """Snapshot the volume; those of all volumes are made before anything is copied."""
        described.describe(op)
        described.usable(op, self._pace)
        if self._from_snapshot:
            described.snapshot(op, self._pace, name=f"karbor-temporary-{op.resource.id}", metadata=TEMPORARY)

    def protect_main(self, op: Op) -> None:
        """Make the backup, then remove the snapshot."""
        storage, volume, options = op.session.connection.block_storage, described.describe(op), op.options
        snapshot = op.made("snapshot")
        incremental = options["backup_mode"] == "incremental" and op.read("base", lambda: self._has_base(op))
        if options["backup_mode"] == "incremental" and not incremental:
            op.warn(f"{volume['name']}: there is no backup to build on: this one is full")

        def make(tag: str) -> str:
            body = {
                "name": options["backup_name"] or f"{op.checkpoint_id}@{op.resource.id}",
                "description": options["description"] or "",
                "container": options["container"],
                "snapshot_id": snapshot,
            }
            given = {key: value for key, value in body.items() if value is not None}
            made = storage.create_backup(
                volume_id=op.resource.id, is_incremental=incremental, force=True, metadata={TAG: tag}, **given
            )
            return str(made.id)

        ident = op.once("backup", make, lambda tag: self._find(op, tag))
        self._pace.until(op, "backup", lambda: storage.get_backup(ident), {"available"}, _PASSING)
        op.save(self._document(op, ident, volume), location="cloud backup", consistency="crash")
        if snapshot:
            described.remove_snapshot(op, self._pace, snapshot)

    def _document(self, op: Op, ident: str, volume: dict[str, Any]) -> dict[str, Any]:
        """What v1's saved info says, and what a restore needs."""
        backup = op.session.connection.block_storage.get_backup(ident)
        return {
            "volume": volume,
            "backup_id": ident,
            "volume_id": op.resource.id,
            "name": backup.name,
            "is_incremental": bool(backup.is_incremental),
            "status": backup.status,
            "size": backup.size,
            "container": backup.container,
        }

    def _has_base(self, op: Op) -> bool:
        backups = op.session.connection.block_storage.backups(details=True, volume_id=op.resource.id)
        return any(backup.status == "available" and UNWANTED not in (backup.metadata or {}) for backup in backups)

    def _find(self, op: Op, tag: str) -> str | None:
        return tagged(op.session.connection.block_storage.backups(details=True, volume_id=op.resource.id), tag)

    def protect_undo(self, op: Op) -> None:
        """Remove the backup and the snapshot."""
        backup = leftover(op, "backup", lambda tag: self._find(op, tag))
        if backup:
            self._remove(op, backup)
        snapshot = leftover(op, "snapshot", lambda tag: described.find_snapshot(op, tag))
        if snapshot:
            described.remove_snapshot(op, self._pace, snapshot)

    # --- restore

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """One volume, new or overwritten."""
        target = op.options["volume_id"]
        if not target:
            yield from described.preflight_restore(op)
            return
        volume = op.session.connection.block_storage.get_volume(target)
        if volume.status != "available" or volume.size < op.saved["volume"]["size"]:
            reason = f"it is {volume.status} and has {volume.size} GiB of {op.saved['volume']['size']}"
            yield described.item(op, "refuse", f"volume {target}", reason)
        yield described.item(op, "overwrite", f"volume {target}", size=op.saved["volume"]["size"] * described.GIB)

    def restore_main(self, op: Op) -> None:
        """Make an empty volume that is what the old one was, and let Cinder fill it."""
        storage, backup = op.session.connection.block_storage, op.saved["backup_id"]
        target = op.options["volume_id"] or described.new_volume(op, self._pace)

        def fill(_tag: str) -> str:
            storage.restore_backup(backup, volume_id=target)
            return str(target)

        op.once("filling", fill, lambda _tag: target if storage.get_backup(backup).status == "restoring" else None)
        passing = ("restoring-backup", "creating")
        self._pace.until(op, "filled", lambda: storage.get_volume(target), {"available"}, passing)
        described.finish(op, target)

    def restore_undo(self, op: Op) -> None:
        """Remove the volume that was made."""
        ident = leftover(op, "new volume", lambda tag: described.find_volume(op, tag))
        if ident:
            described.remove_volume(op, self._pace, ident)

    # --- verify and delete

    def verify_main(self, op: Op) -> None:
        """Say that it cannot be: Cinder tells a status, which proves nothing."""
        found = op.session.connection.block_storage.get_backup(op.saved["backup_id"])
        raise ResourceFailed(
            f"not verifiable: backup {found.id} is {found.status}, but its bytes lie outside the vault",
            hint="a test restore proves it",
        )

    def delete_main(self, op: Op) -> None:
        """Delete the backup and what only it still needed; one that others need is marked for later."""
        storage, ident = op.session.connection.block_storage, op.saved["backup_id"]
        known = {backup.id: backup for backup in storage.backups(details=True, volume_id=op.saved["volume_id"])}
        if op.read("needed", lambda: bool(ident in known and known[ident].has_dependent_backups)):
            storage.update_backup(ident, metadata={**(known[ident].metadata or {}), UNWANTED: "yes"})
            op.warn(f"backup {ident} is the base of increments: it goes with the last of them")
            return
        self._remove(op, ident)
        chain = op.read("chain", lambda: [one for one in known if UNWANTED in (known[one].metadata or {})])
        for base in sorted(chain, key=lambda one: known[one].created_at if one in known else "", reverse=True):
            if base in known and not storage.get_backup(base).has_dependent_backups:
                self._remove(op, base)

    def _remove(self, op: Op, ident: str) -> None:
        storage = op.session.connection.block_storage
        name = f"backup {ident}"
        self._pace.gone(op, name, lambda: storage.get_backup(ident), lambda: storage.delete_backup(ident), _PASSING)
