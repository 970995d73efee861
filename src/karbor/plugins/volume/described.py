"""What a volume is besides its bytes: what is saved of it, what a restore makes of that, and what would be in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import VOLUME, Resource
from karbor.errors import NotFound
from karbor.plugins.waiting import TAG, tagged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from karbor.plugins.waiting import Pace
    from karbor.sdk.op import Look, Op

GIB = 1 << 30
WORKING = ("creating", "downloading", "attaching", "detaching", "backing-up", "restoring-backup", "uploading",
           "extending", "retyping", "maintenance", "reserved", "awaiting-transfer")  # fmt: skip
"""Statuses that pass: what Cinder is doing with a volume."""
_OF_IMAGE = frozenset(
    {"image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"}
)
_OWN = frozenset({TAG, "karbor-temporary"})


class VolumeRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_name: Annotated[
        str | None, msgspec.Meta(title="Restore Volume Name", description="Name of the new volume: else the old one.")
    ] = None
    restore_description: Annotated[
        str | None, msgspec.Meta(title="Restore Description", description="Of the new volume: else the old one.")
    ] = None
    restore_volume_type: Annotated[
        str | None, msgspec.Meta(title="Restore Volume Type", description="Another volume type than the old one.")
    ] = None
    restore_availability_zone: Annotated[
        str | None, msgspec.Meta(title="Restore Availability Zone", description="Another zone than the old one.")
    ] = None


def describe(op: Op) -> dict[str, Any]:
    """What is saved of the volume, as it is now; recorded."""

    def look() -> dict[str, Any]:
        volume = op.session.connection.block_storage.get_volume(op.resource.id)
        metadata = {key: value for key, value in (volume.metadata or {}).items() if key not in _OWN}
        return {
            "volume_id": volume.id,
            "name": volume.name or "",
            "description": volume.description or "",
            "size": volume.size,
            "volume_type": volume.volume_type,
            "availability_zone": volume.availability_zone,
            "bootable": bool(volume.is_bootable),
            "multiattach": bool(volume.is_multiattach),
            "encrypted": bool(volume.is_encrypted),
            "encryption_key_id": volume.encryption_key_id,
            "metadata": metadata,
            "image_metadata": dict(volume.volume_image_metadata or {}),
        }

    return op.read("volume", look)


def usable(op: Op, pace: Pace) -> None:
    """Wait until the volume can be read from."""
    storage = op.session.connection.block_storage
    passing = {*WORKING} - {"downloading"}
    pace.until(op, "volume", lambda: storage.get_volume(op.resource.id), {"available", "in-use"}, passing)


def snapshot(op: Op, pace: Pace, **body: Any) -> str:
    """Make a snapshot of the volume and wait for it; returns its id."""
    storage = op.session.connection.block_storage
    metadata = body.pop("metadata", {})

    def make(tag: str) -> str:
        made = storage.create_snapshot(
            volume_id=op.resource.id, is_forced=True, metadata={**metadata, TAG: tag}, **body
        )
        return str(made.id)

    ident = op.once("snapshot", make, lambda tag: find_snapshot(op, tag))
    pace.until(op, "snapshot", lambda: storage.get_snapshot(ident), {"available"}, {"creating", "backing-up"})
    return ident


def find_snapshot(op: Op, tag: str) -> str | None:
    """The snapshot of this volume with the tag."""
    return tagged(op.session.connection.block_storage.snapshots(details=True, volume_id=op.resource.id), tag)


def remove_snapshot(op: Op, pace: Pace, ident: str) -> None:
    """Delete a snapshot and wait until it is gone."""
    storage = op.session.connection.block_storage
    busy = {"creating", "backing-up"}
    pace.gone(op, "snapshot", lambda: storage.get_snapshot(ident), lambda: storage.delete_snapshot(ident), busy)


def find_volume(op: Op, tag: str) -> str | None:
    """The volume with the tag."""
    return tagged(op.session.connection.block_storage.volumes(details=True), tag)


def remove_volume(op: Op, pace: Pace, ident: str, name: str = "volume") -> None:
    """Delete a volume and wait until it is gone."""
    storage = op.session.connection.block_storage
    pace.gone(op, name, lambda: storage.get_volume(ident), lambda: storage.delete_volume(ident), WORKING)


def new_volume(op: Op, pace: Pace, **source: Any) -> str:
    """Make the volume of a restore, from a source or empty, and wait until it is there; returns its id."""
    storage = op.session.connection.block_storage
    body = wanted(op)

    def make(tag: str) -> str:
        metadata = {**body["metadata"], TAG: tag}
        return str(storage.create_volume(**{**body, "metadata": metadata}, **source).id)

    ident = op.once("new volume", make, lambda tag: find_volume(op, tag))
    pace.until(op, "new volume", lambda: storage.get_volume(ident), {"available"}, {"creating", "downloading"})
    return ident


def wanted(op: Op | Look) -> dict[str, Any]:
    """The body of the new volume; a zone that is not there is left to the cloud."""
    saved, options = op.saved["volume"], op.options
    zone = options.get("restore_availability_zone") or saved["availability_zone"]
    body = {
        "name": options.get("restore_name") or saved["name"],
        "description": options.get("restore_description") or saved["description"],
        "size": saved["size"],
        "metadata": saved["metadata"],
        "volume_type": options.get("restore_volume_type") or saved["volume_type"],
        "availability_zone": zone if zone in _zones(op) else None,
    }
    return {key: value for key, value in body.items() if value is not None}


def finish(op: Op, ident: str) -> None:
    """Give the new volume what a creation cannot, and register it."""
    storage, saved, body = op.session.connection.block_storage, op.saved["volume"], wanted(op)

    def set_boot() -> None:
        storage.set_volume_bootable_status(ident, bool(saved["bootable"]))

    op.ensure(lambda: bool(storage.get_volume(ident).is_bootable) == saved["bootable"], set_boot)
    _image_metadata(op, ident)
    described = {"name": body["name"], "description": body["description"]}
    volume = storage.get_volume(ident)
    if {"name": volume.name or "", "description": volume.description or ""} != described:
        storage.update_volume(ident, **described)
    spare = [key for key in volume.metadata or {} if key not in saved["metadata"] and key != TAG]
    if spare:  # a restored backup brings what Cinder noted about itself
        storage.delete_volume_metadata(ident, keys=spare)
    if saved["encrypted"]:
        op.warn(f"{saved['name']}: encrypted with secret {saved['encryption_key_id']}; the new volume has its own key")
    extra = {"availability_zone": volume.availability_zone}
    op.register(Resource(type=VOLUME, id=ident, name=body["name"], extra_info=extra))


def _image_metadata(op: Op, ident: str) -> None:
    storage, saved = op.session.connection.block_storage, op.saved["volume"]["image_metadata"]
    now = dict(storage.get_volume(ident).volume_image_metadata or {})
    spare = [key for key in now if key not in saved]
    if spare:
        storage.delete_volume_image_metadata(ident, keys=spare)
    changed = {key: value for key, value in saved.items() if now.get(key) != value and key not in _OF_IMAGE - {*spare}}
    if changed:
        storage.set_volume_image_metadata(ident, **changed)


# --- pre-flights


def preflight_protect(op: Look, route: str) -> Iterator[PreflightItem]:
    """The volume with its size, and what would be made of it meanwhile."""
    try:
        volume = op.session.connection.block_storage.get_volume(op.resource.id)
    except NotFound as error:
        yield item(op, "refuse", op.resource.name, error.message)
        return
    if volume.status.startswith("error") or volume.status == "deleting":
        yield item(op, "refuse", volume.name or volume.id, f"the volume is {volume.status}")
        return
    yield item(op, "read", volume.name or volume.id, route, volume.size * GIB)


def preflight_restore(op: Look) -> Iterator[PreflightItem]:
    """The volume that would be made, and whether type and quota allow it."""
    body = wanted(op)
    storage = op.session.connection.block_storage
    what = f"volume {body['name'] or op.resource.id} of checkpointed {op.resource.id}"
    kinds = op.session.remembered("volume types", lambda: {kind.name for kind in storage.types()})
    if body.get("volume_type") not in {None, *kinds}:
        hint = "choose one with restore_volume_type"
        yield item(op, "refuse", what, f"there is no volume type {body['volume_type']}: {hint}")
    left = op.session.remembered("volume quota", lambda: _quota(op))
    left["volumes"] -= 1
    left["gigabytes"] -= body["size"]
    for name, rest in left.items():
        if rest < 0:
            yield item(op, "refuse", what, f"the quota of {name} does not suffice: {-rest} are missing")
    note = "" if "availability_zone" in body else "in the default zone: the old one is not there"
    yield item(op, "create", what, note, body["size"] * GIB)


def item(op: Look, action: Any, what: str, reason: str = "", size: int = 0) -> PreflightItem:
    """One line of a pre-flight."""
    return PreflightItem(resource=op.resource.key, action=action, what=what, reason=reason, estimated_bytes=size)


def _quota(op: Look) -> dict[str, int]:
    """What is left, as far as there is a limit."""
    quota = op.session.connection.block_storage.get_quota_set(op.session.project_id, usage=True)
    used, limit = quota.usage or {}, {"volumes": quota.volumes, "gigabytes": quota.gigabytes}
    return {
        name: most - int(used.get(name, 0)) if most is not None and most >= 0 else 1 << 62
        for name, most in limit.items()
    }


def _zones(op: Op | Look) -> Mapping[str, Any]:
    storage = op.session.connection.block_storage
    found: Mapping[str, Any] = op.session.remembered(
        "volume zones", lambda: {zone.name: zone for zone in storage.availability_zones()}
    )
    return found
