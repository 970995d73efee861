"""Protects volumes in the vault: snapshot → temporary volume → temporary image → vault, with a tenant's rights only.

Works on any back end and with volumes in use. What is temporary is removed at the end and by the undo hooks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.resource import VOLUME
from karbor.errors import NotFound
from karbor.plugins.glance import Upload, discard_image, find_image, remove_image
from karbor.plugins.volume import described
from karbor.plugins.volume.described import GIB, VolumeRestore
from karbor.plugins.waiting import TAG, TEMPORARY, Pace, leftover
from karbor.sdk.cloud_image import Download
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.domain.preflight import PreflightItem
    from karbor.sdk.op import Look, Op


class ImageRouteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a protect."""

    backup_name: Annotated[str | None, msgspec.Meta(title="Backup Name", description="A name for people.")] = None
    description: Annotated[str | None, msgspec.Meta(title="Description", description="For people.")] = None


class ImageRouteProtection(Protection):
    """The volume's bytes go into the vault, in fixed chunks: what did not change is stored once."""

    name = "karbor-volume-glance-plugin"
    section = "volume_glance_plugin"
    types = (VOLUME,)
    protect_options = ImageRouteOptions
    restore_options = VolumeRestore
    settle_seconds = 20.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pace = Pace(options)

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """The volume, through a snapshot, a volume and an image that are removed again."""
        return described.preflight_protect(op, "through a temporary snapshot, volume and image")

    def protect_prepare_finish(self, op: Op) -> None:
        """Snapshot the volume; those of all volumes are made before anything is copied."""
        described.describe(op)
        described.usable(op, self._pace)
        described.snapshot(op, self._pace, name=f"karbor-temporary-{op.resource.id}", metadata=TEMPORARY)

    def protect_main(self, op: Op) -> None:
        """Store the bytes of the snapshot, then remove what was made on the way."""
        volume = described.describe(op)
        copy = self._copy(op, op.made("snapshot"))
        image = self._image(op, copy)
        written = op.vault.write_image(
            Download(partial(op.session.read_image, image), volume["size"] * GIB), progress=op.progress
        )
        document = {"volume": volume, "logical_bytes": written.logical_bytes, "name": op.options["backup_name"] or ""}
        op.save(document, location="bank", consistency="crash")
        self._remove(op, op.made("snapshot"), copy, image)

    def protect_undo(self, op: Op) -> None:
        """Remove whatever was made."""
        image = leftover(op, "image", lambda tag: _find_upload(op, tag))
        copy = leftover(op, "copy", lambda tag: described.find_volume(op, tag))
        snapshot = leftover(op, "snapshot", lambda tag: described.find_snapshot(op, tag))
        self._remove(op, snapshot, copy, image)

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """One volume; the image that it is made from is removed again."""
        return described.preflight_restore(op)

    def restore_main(self, op: Op) -> None:
        """Upload the bytes as an image, make the volume from it, remove the image."""
        size, name = int(op.saved["logical_bytes"]), f"karbor-temporary-{op.resource.id}"
        upload = Upload(op, self._pace, name, size, temporary=True, disk_format="raw")
        image = upload.make()
        op.defer("image", lambda: discard_image(op, image))
        upload.fill()
        described.finish(op, described.new_volume(op, self._pace, image_id=image))

    def restore_undo(self, op: Op) -> None:
        """Remove the volume and the image."""
        volume = leftover(op, "new volume", lambda tag: described.find_volume(op, tag))
        if volume:
            described.remove_volume(op, self._pace, volume)
        image = leftover(op, "image", lambda tag: find_image(op.session, tag))
        if image:
            remove_image(op.session, image)

    def verify_main(self, op: Op) -> None:
        """Read back every byte."""
        op.vault.verify(progress=op.progress)

    def _copy(self, op: Op, snapshot: str) -> str:
        storage = op.session.connection.block_storage

        def make(tag: str) -> str:
            made = storage.create_volume(
                snapshot_id=snapshot, name=f"karbor-temporary-{op.resource.id}", metadata={**TEMPORARY, TAG: tag}
            )
            return str(made.id)

        copy = op.once("copy", make, lambda tag: described.find_volume(op, tag))
        # Also what follows: while the copy is uploaded it is `uploading`.
        good = {"available", "uploading"}
        self._pace.until(op, "copy", lambda: storage.get_volume(copy), good, {"creating", "downloading"})
        return copy

    def _image(self, op: Op, copy: str) -> str:
        cloud = op.session.connection

        def make(tag: str) -> str:
            made = cloud.block_storage.upload_volume_to_image(
                copy, f"karbor-temporary-{tag}", disk_format="raw", container_format="bare"
            )
            return str(made["image_id"])

        image = op.once("image", make, lambda tag: _find_upload(op, tag))
        get = partial(cloud.image.get_image, image)
        self._pace.until(op, "image", get, {"active"}, {"queued", "saving", "uploading", "importing"})
        return image

    def _remove(self, op: Op, snapshot: str | None, copy: str | None, image: str | None) -> None:
        """In the order in which they depend on one another, each waited for."""
        if image:
            remove_image(op.session, image)
        if copy:
            described.remove_volume(op, self._pace, copy, "copy")
        if snapshot:
            described.remove_snapshot(op, self._pace, snapshot)


def _find_upload(op: Op, tag: str) -> str | None:
    """The image that Cinder was asked to make: its id is Glance's choice, its name ours."""
    try:
        return next(
            (str(found.id) for found in op.session.connection.image.images(name=f"karbor-temporary-{tag}")), None
        )
    except NotFound:
        return None
