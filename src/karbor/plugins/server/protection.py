"""Protects servers: what they are made of, and the root disk of those that boot from an image.

The root disk goes into the vault of the server itself, so that two servers of one image never share a disk. Volumes
are the server's dependents and protected by their own plugin; the server is made anew when they are back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import SERVER, Resource
from karbor.errors import NotFound, ResourceFailed
from karbor.plugins.glance import Upload, discard_image, find_image, remove_image, show_image
from karbor.plugins.server.described import describe
from karbor.plugins.server.nova import Nova
from karbor.plugins.server.ports import Ports
from karbor.plugins.waiting import Pace, leftover
from karbor.sdk.cloud_image import Download
from karbor.sdk.protection import Protection
from karbor.sdk.schema import NoOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.sdk.op import Look, Op

GIB = 1 << 30
_OFF = "SHUTOFF"
_FIT = frozenset({"ACTIVE", _OFF, "PAUSED", "SUSPENDED"})
"""Statuses in which Nova makes an image of a server."""
_OF_DISK = ("hw_", "os_distro", "os_version", "os_type", "os_admin_user", "os_require_quiesce", "architecture", "img_")
"""Image properties that say how a disk is to be run."""


class ServerRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_name: Annotated[
        str | None, msgspec.Meta(title="Restore Server Name", description="Name of the new server: else the old one.")
    ] = None
    restore_net_id: Annotated[
        str | None, msgspec.Meta(title="Restore Network ID", description="One network in place of the old ones.")
    ] = None
    restore_flavor_id: Annotated[
        str | None, msgspec.Meta(title="Restore Flavor ID", description="Another flavor than the old one.")
    ] = None
    restore_availability_zone: Annotated[
        str | None, msgspec.Meta(title="Restore Availability Zone", description="Another zone than the old one.")
    ] = None


class ServerProtection(Protection):
    """Servers that boot from an image or from a volume, running or not."""

    name = "karbor-server-protection-plugin"
    section = "nova_backup_protection_plugin"
    types = (SERVER,)
    protect_options = NoOptions
    restore_options = ServerRestore
    settle_seconds = 20.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pace = Pace(options)

    # --- protect

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """The server, and its root disk where that is no volume."""
        try:
            server = Nova(op.session).server(op.resource.id)
        except NotFound as error:
            return [_item(op, "refuse", op.resource.name, error.message)]
        if server["status"] not in _FIT:
            return [_item(op, "refuse", server["name"], f"the server is {server['status']}")]
        if not server.get("image"):
            return [_item(op, "read", server["name"], "its disks are volumes")]
        size = int(server["flavor"].get("disk", 0)) * GIB
        return [_item(op, "read", server["name"], "its root disk through a temporary image", size)]

    def protect_prepare_finish(self, op: Op) -> None:
        """Describe the server; image its root disk when its volumes are snapshotted and before anything is copied."""
        server = describe(op)
        nova = Nova(op.session)
        if not server["user_data_shown"]:
            op.warn(f"{server['name']}: this cloud does not show user data to tenants: they are not saved")
        if not server["image_id"]:
            return
        if server["status"] not in _FIT:
            raise ResourceFailed(f"server {server['name']} is {server['status']}: its disk cannot be read")

        def make(tag: str) -> str:
            body = {"name": f"karbor-temporary-{tag}", "metadata": {}}
            return str(nova.action(op.resource.id, "createImage", body)["image_id"])

        image = op.once("root", make, lambda tag: _find_named(op, tag))
        get = partial(op.session.connection.image.get_image, image)
        self._pace.until(op, "root", get, {"active"}, {"queued", "saving", "importing", "uploading"})

    def protect_main(self, op: Op) -> None:
        """Store the root disk and the document, remove the image."""
        server, image = describe(op), op.made("root")
        document: dict[str, Any] = {"server": server, "project_id": op.project_id}
        if image is None:
            op.save(document, location="none", consistency="crash")
            return
        shown = op.read("root image", lambda: show_image(op.session, image))
        if not shown["size"]:
            raise ResourceFailed(f"the image of {server['name']}'s root disk is empty")
        op.vault.write_image(Download(partial(op.session.read_image, image), shown["size"]), progress=op.progress)
        root = {name: shown.get(name) for name in ("disk_format", "container_format", "size", "min_disk", "min_ram")}
        root["properties"] = {name: value for name, value in shown.items() if name.startswith(_OF_DISK)}
        op.save({**document, "root": root}, location="bank", consistency="crash")
        remove_image(op.session, image)

    def protect_undo(self, op: Op) -> None:
        """Remove the image."""
        image = leftover(op, "root", lambda tag: _find_named(op, tag))
        if image:
            remove_image(op.session, image)

    # --- restore

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """The server that would be made, and whether flavor and quota allow it."""
        saved = op.saved["server"]
        what = f"server {op.options['restore_name'] or saved['name']} of checkpointed {saved['server_id']}"
        flavors = op.session.remembered("flavors", Nova(op.session).flavors)
        flavor = _flavor(op, flavors)
        if flavor is None:
            wanted = op.options["restore_flavor_id"] or saved["flavor"].get("original_name")
            yield _item(op, "refuse", what, f"there is no flavor {wanted}: choose one with restore_flavor_id")
        else:
            yield from _quota(op, what, flavor)
        other = op.options["restore_net_id"]
        if other and op.session.connection.network.find_network(other) is None:
            yield _item(op, "refuse", what, f"there is no network {other}")
        yield _item(op, "create", what, size=int((op.saved.get("root") or {}).get("size") or 0))

    def restore_complete(self, op: Op) -> None:
        """Make the server: its volumes and networks are there."""
        nova, saved, ports = Nova(op.session), op.saved["server"], Ports(op)
        root = op.saved.get("root")
        image = self._root_image(op, root) if root else None
        made = ports.all()
        body = self._body(op, nova, image, made)

        def make(tag: str) -> str:
            server = {**body["server"], "tags": [*body["server"]["tags"], tag]}
            return str(nova.post("/servers", {**body, "server": server})["server"]["id"])

        ident = op.once("server", make, nova.with_tag)
        get = partial(op.session.connection.compute.get_server, ident)
        self._pace.until(op, "server", get, {"active"}, {"build"})
        self._addresses(op, ports, made)
        if saved["status"] == _OFF:
            if nova.server(ident)["status"] != _OFF:
                op.once("stop", lambda _tag: nova.action(ident, "os-stop"), lambda _tag: None)
            self._pace.until(op, "stopped", get, {"shutoff"}, {"active"})
        name = body["server"]["name"]
        op.register(Resource(type=SERVER, id=ident, name=name, extra_info=op.resource.extra_info))

    def restore_undo(self, op: Op) -> None:
        """Remove the server, its ports, its key and the image."""
        nova = Nova(op.session)
        ident = leftover(op, "server", nova.with_tag)
        if ident:
            get = partial(op.session.connection.compute.get_server, ident)
            self._pace.gone(op, "server", get, lambda: nova.delete(f"/servers/{ident}"))
        Ports(op).remove()
        key = op.saved["server"]["key"]
        if key and op.made("key"):
            nova.delete(f"/os-keypairs/{key['name']}")
        image = leftover(op, "image", lambda tag: find_image(op.session, tag))
        if image:
            remove_image(op.session, image)

    def verify_main(self, op: Op) -> None:
        """Read back every byte of the root disk."""
        if op.saved.get("root"):
            op.vault.verify(progress=op.progress)

    # --- what a new server is made of

    def _root_image(self, op: Op, root: dict[str, Any]) -> str:
        body = {key: root[key] for key in ("disk_format", "container_format", "min_disk", "min_ram")}
        name = f"karbor-temporary-{op.resource.id}"
        upload = Upload(op, self._pace, name, root["size"], temporary=True, **body, **root["properties"])
        image = upload.make()
        op.defer("image", lambda: discard_image(op, image))
        upload.fill()
        return image

    def _body(self, op: Op, nova: Nova, image: str | None, ports: list[str]) -> dict[str, Any]:
        saved, options = op.saved["server"], op.options
        flavor = _flavor(op, op.session.remembered("flavors", nova.flavors))
        if flavor is None:
            raise ResourceFailed(f"there is no flavor {saved['flavor'].get('original_name')} for {saved['name']}")
        server: dict[str, Any] = {
            "name": options["restore_name"] or saved["name"],
            "description": saved["description"] or None,
            "flavorRef": flavor["id"],
            "metadata": saved["metadata"],
            "tags": saved["tags"],
            "config_drive": saved["config_drive"],
            "networks": [{"port": port} for port in ports] or "none",
            "block_device_mapping_v2": _disks(op, image),
        }
        if image:
            server["imageRef"] = image
        if saved["user_data"]:
            server["user_data"] = saved["user_data"]
        if saved["key"]:
            server["key_name"] = self._key(op, nova)
        zone = options["restore_availability_zone"] or saved["availability_zone"]
        if zone in _zones(op):
            server["availability_zone"] = zone
        groups = [group for group in saved["server_groups"] if _has_group(nova, group["id"])]
        hints = {"OS-SCH-HNT:scheduler_hints": {"group": groups[0]["id"]}} if groups else {}
        return {"server": server, **hints}

    def _key(self, op: Op, nova: Nova) -> str | None:
        """The name of the key pair; one that is gone is imported again from its public half."""
        key: dict[str, str] = op.saved["server"]["key"]
        try:
            now = nova.get(f"/os-keypairs/{key['name']}")["keypair"]
        except NotFound:
            if not key["public_key"]:
                op.warn(f"key pair {key['name']} is gone and was not the caller's: the server gets none")
                return None
            pair = {"name": key["name"], "type": key["type"], "public_key": key["public_key"]}

            def make(_tag: str) -> str:
                nova.post("/os-keypairs", {"keypair": pair})
                return key["name"]

            return op.once("key", make, lambda _tag: key["name"])
        if key["public_key"] and now["public_key"] != key["public_key"]:
            op.warn(f"key pair {key['name']} is another one now: the new server knows that one")
        return key["name"]

    def _addresses(self, op: Op, ports: Ports, made: list[str]) -> None:
        """Floating IPs that are still the project's and free go to the new ports."""
        network = op.session.connection.network
        for floating in op.saved["server"]["floating_ips"]:
            port = ports.new_port(floating["port_id"], made)
            ident = ports.floating_ip(floating["id"])
            try:
                now = network.get_ip(ident)
            except NotFound:
                op.warn(
                    f"floating IP {floating['address']} is gone: it comes back with the network, not with the server"
                )
                continue
            if port is None or now.port_id not in {None, port}:
                op.warn(f"floating IP {floating['address']} is in use: it stays where it is")
            elif now.port_id is None:
                network.update_ip(ident, port_id=port)


def _disks(op: Op, image: str | None) -> list[dict[str, Any]]:
    """Block devices in the order of the old ones; the first is what the server boots from."""
    disks: list[dict[str, Any]] = []
    if image:
        first = {"uuid": image, "source_type": "image", "destination_type": "local", "delete_on_termination": True}
        disks.append({"boot_index": 0, **first})
    for attachment in _in_boot_order(op.saved["server"]):
        volume = op.restored(attachment["key"])
        if volume is None:
            raise ResourceFailed(f"volume {attachment['volume_id']} of {op.resource.name} has not been restored")
        disk = {
            "uuid": volume.id,
            "source_type": "volume",
            "destination_type": "volume",
            "boot_index": -1 if disks else 0,
            "delete_on_termination": attachment["delete_on_termination"],
        }
        disks.append(disk if attachment["tag"] is None else {**disk, "tag": attachment["tag"]})
    return disks


def _in_boot_order(server: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """By device; what a server without an image booted from comes first."""
    rows = server["attachments"]
    first = [row for row in rows if row["device"] == server["root_device"]] if not server["image_id"] else []
    yield from first
    yield from (row for row in rows if row not in first)


def _flavor(op: Op | Look, flavors: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    wanted = op.options["restore_flavor_id"]
    if wanted:
        return next((flavor for flavor in flavors.values() if flavor["id"] == wanted), None)
    return flavors.get(op.saved["server"]["flavor"].get("original_name", ""))


def _quota(op: Look, what: str, flavor: dict[str, Any]) -> Iterator[PreflightItem]:
    """What the project may still have, counted down by each server of the same restore."""

    def left() -> dict[str, int]:
        limits = Nova(op.session).get("/limits")["limits"]["absolute"]
        names = {"instances": ("maxTotalInstances", "totalInstancesUsed"), "cores": ("maxTotalCores", "totalCoresUsed"),
                 "ram": ("maxTotalRAMSize", "totalRAMUsed")}  # fmt: skip
        return {
            name: limits[most] - limits[used] if limits.get(most, -1) >= 0 else 1 << 62
            for name, (most, used) in names.items()
        }

    rest = op.session.remembered("compute quota", left)
    for name, amount in (("instances", 1), ("cores", flavor["vcpus"]), ("ram", flavor["ram"])):
        rest[name] -= amount
        if rest[name] < 0:
            yield _item(op, "refuse", what, f"the quota of {name} does not suffice: {-rest[name]} are missing")


def _has_group(nova: Nova, ident: str) -> bool:
    try:
        nova.get(f"/os-server-groups/{ident}")
    except NotFound:
        return False
    return True


def _zones(op: Op) -> set[str]:
    def load() -> set[str]:
        rows = Nova(op.session).get("/os-availability-zone")["availabilityZoneInfo"]
        return {row["zoneName"] for row in rows if row["zoneState"]["available"]}

    found: set[str] = op.session.remembered("compute zones", load)
    return found


def _find_named(op: Op, tag: str) -> str | None:
    """The image that Nova was asked to make: its id is Glance's choice, its name ours."""
    return next((str(found.id) for found in op.session.connection.image.images(name=f"karbor-temporary-{tag}")), None)


def _item(op: Look, action: Any, what: str, reason: str = "", size: int = 0) -> PreflightItem:
    return PreflightItem(resource=op.resource.key, action=action, what=what, reason=reason, estimated_bytes=size)
