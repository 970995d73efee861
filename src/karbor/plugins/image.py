"""Protects images of Glance: bytes into the vault, properties, tags, members and visibility into the document."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import IMAGE, Resource
from karbor.errors import Conflict, Forbidden, NotFound, ResourceFailed
from karbor.plugins.glance import Upload, find_image, remove_image, show_image
from karbor.plugins.waiting import Pace, leftover
from karbor.sdk.cloud_image import Download
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.sdk.op import Look, Op

_CLOUDS_OWN = frozenset({"id", "status", "size", "virtual_size", "checksum", "created_at", "updated_at", "owner", "file",
                         "schema", "self", "direct_url", "locations", "stores", "os_hash_algo", "os_hash_value",
                         "os_hidden", "name", "visibility", "protected"})  # fmt: skip
"""What Glance says of an image that is no property a tenant could give it, and what is restored on its own."""


class ImageOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a protect."""

    backup_name: Annotated[str | None, msgspec.Meta(title="Backup Name", description="A name for people.")] = None


class ImageRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_name: Annotated[
        str | None, msgspec.Meta(title="Restore Image Name", description="Name of the new image: else the old one.")
    ] = None


class ImageProtection(Protection):
    """An image never changes once it is active, so one that the plan's last checkpoint has is not read again.

    Of an image that belongs to somebody else only the properties are kept: servers made from it have their own disk.
    """

    name = "karbor-image-protection-plugin"
    section = "image_backup_plugin"
    types = (IMAGE,)
    protect_options = ImageOptions
    restore_options = ImageRestore
    settle_seconds = 20.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pace = Pace(options)

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """The image with its size."""
        try:
            image = show_image(op.session, op.resource.id)
        except NotFound as error:
            return [_item(op, "refuse", op.resource.name, error.message)]
        if image["status"] != "active":
            return [_item(op, "refuse", image["name"], f"the image is {image['status']}")]
        if image["owner"] != op.project_id:
            return [_item(op, "skip", image["name"], "it belongs to another project: its properties are kept")]
        return [_item(op, "read", image["name"], size=image["size"])]

    def protect_main(self, op: Op) -> None:
        """Store the bytes of an own image, and what it is."""
        image = op.read("image", lambda: show_image(op.session, op.resource.id))
        if image["status"] != "active":
            raise ResourceFailed(f"image {image['id']} is {image['status']}: it has no bytes to protect")
        own = image["owner"] == op.project_id
        document = {"image": image, "own": own, "members": op.read("members", lambda: _members(op, image))}
        if not own:
            op.save(document, location="none", consistency="none")
            return
        source = Download(partial(op.session.read_image, image["id"]), image["size"])
        op.vault.write_image(source, changed=(), progress=op.progress)
        op.save(document, location="bank", consistency="crash")

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """A new image, or the one that is still there."""
        image = op.saved["image"]
        if self._stays(op):
            return [_item(op, "reuse", image["name"], "the image is still there")]
        if not op.saved["own"]:
            return [_item(op, "skip", image["name"], "it belonged to another project and is gone")]
        return [_item(op, "create", f"image {image['name']} of checkpointed {image['id']}", size=image["size"])]

    def restore_main(self, op: Op) -> None:
        """Make the image anew; one that was only below a server and is still there is used as it is."""
        image = op.saved["image"]
        if op.read("stays", lambda: self._stays(op)):
            op.register(op.resource)
            return
        if not op.saved["own"]:
            op.warn(f"image {image['name']} belonged to another project and is gone: it is not restored")
            return
        name = op.options["restore_name"] or image["name"]
        body = {key: value for key, value in image.items() if _given(key, value)}
        upload = Upload(op, self._pace, name, image["size"], **body)
        ident = upload.make()
        upload.fill(hash_value=image.get("os_hash_value") or "")
        self._finish(op, ident)
        op.register(Resource(type=IMAGE, id=ident, name=name, extra_info=op.resource.extra_info))

    def restore_undo(self, op: Op) -> None:
        """Remove the image."""
        ident = leftover(op, "image", lambda tag: find_image(op.session, tag))
        if ident:
            _patch(op, ident, protected=False)
            remove_image(op.session, ident)

    def verify_main(self, op: Op) -> None:
        """Read back every byte."""
        if op.saved["own"]:
            op.vault.verify(progress=op.progress)

    def _stays(self, op: Look | Op) -> bool:
        """Whether the image needs no restore: it came along with a server, or is not ours, and is what it was."""
        image = op.saved["image"]
        if op.saved["own"] and not (op.resource.extra_info or {}).get("server_id"):
            return False
        try:
            now = show_image(op.session, image["id"])
        except NotFound:
            return False
        return bool(now["status"] == "active" and now.get("os_hash_value") == image.get("os_hash_value"))

    def _finish(self, op: Op, ident: str) -> None:
        """Who may see it, last of all."""
        image = op.saved["image"]
        try:
            _patch(op, ident, visibility=image["visibility"])
        except Forbidden:
            op.warn(f"image {image['name']} was {image['visibility']}: this cloud does not let the tenant say so again")
        for member in op.saved["members"]:
            try:
                op.session.connection.image.add_member(ident, member_id=member["member_id"])
            except Conflict:
                continue  # an earlier attempt added it
        _patch(op, ident, protected=image["protected"])


def _members(op: Op, image: dict[str, Any]) -> list[dict[str, str]]:
    if image["visibility"] != "shared" or image["owner"] != op.project_id:
        return []
    found = op.session.connection.image.members(image["id"])
    return [{"member_id": member.member_id, "status": member.status} for member in found]


def _given(key: str, value: Any) -> bool:
    """Whether it is an attribute or property that a new image can be given."""
    return key not in _CLOUDS_OWN and not key.startswith("os_glance") and value is not None


def _patch(op: Op, ident: str, **wanted: Any) -> None:
    """Change attributes that are not as wanted (Images API v2, JSON patch)."""
    now = show_image(op.session, ident)
    changes = [
        {"op": "replace", "path": f"/{key}", "value": value} for key, value in wanted.items() if now[key] != value
    ]
    if changes:
        kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        op.session.connection.image.patch(f"/images/{ident}", json=changes, headers=kind, raise_exc=True)


def _item(op: Look, action: Any, what: str, reason: str = "", size: int = 0) -> PreflightItem:
    return PreflightItem(resource=op.resource.key, action=action, what=what, reason=reason, estimated_bytes=size)
