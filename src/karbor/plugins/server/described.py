"""What a server is made of, as one document: everything that the tenant may see and could make again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from karbor.domain.resource import VOLUME
from karbor.errors import Forbidden, NotFound
from karbor.plugins.server.nova import Nova

if TYPE_CHECKING:
    from karbor.sdk.cloud import CloudSession
    from karbor.sdk.op import Op

_PORT = ("id", "name", "description", "network_id", "mac_address", "fixed_ips", "allowed_address_pairs",
         "security_group_ids", "is_port_security_enabled", "is_admin_state_up", "binding_vnic_type")  # fmt: skip


def describe(op: Op) -> dict[str, Any]:
    """What is saved of the server, as it is now; recorded."""
    return op.read("server", lambda: _look(op.session, op.resource.id))


def _look(session: CloudSession, ident: str) -> dict[str, Any]:
    nova = Nova(session)
    server = nova.server(ident)
    attachments = nova.get(f"/servers/{ident}/os-volume_attachments")["volumeAttachments"]
    ports = _ports(session, nova, ident)
    return {
        "server_id": ident,
        "name": server["name"],
        "description": server.get("description") or "",
        "status": server["status"],
        "availability_zone": server.get("OS-EXT-AZ:availability_zone") or "",
        "image_id": (server["image"] or {}).get("id", "") if server.get("image") else "",
        "flavor": server["flavor"],
        "metadata": server.get("metadata") or {},
        "tags": [tag for tag in server.get("tags") or [] if not tag.startswith("karbor-")],
        "config_drive": bool(server.get("config_drive")),
        "disk_config": server.get("OS-DCF:diskConfig") or "",
        "user_data": server.get("OS-EXT-SRV-ATTR:user_data"),
        "user_data_shown": "OS-EXT-SRV-ATTR:user_data" in server,
        "root_device": server.get("OS-EXT-SRV-ATTR:root_device_name") or "",
        "key": _key(nova, server.get("key_name") or ""),
        "server_groups": [_group(nova, group) for group in server.get("server_groups") or []],
        "attachments": sorted((_attachment(row) for row in attachments), key=lambda row: _order(row["device"])),
        "ports": ports,
        "security_groups": _security_groups(session, ports),
        "floating_ips": _floating_ips(session, ports),
    }


def _attachment(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "volume_id": row["volumeId"],
        "key": f"{VOLUME}#{row['volumeId']}",
        "device": row.get("device") or "",
        "delete_on_termination": bool(row.get("delete_on_termination")),
        "tag": row.get("tag"),
    }


def _order(device: str) -> tuple[int, str]:
    """/dev/vdb before /dev/vdaa."""
    return len(device), device


def _key(nova: Nova, name: str) -> dict[str, str] | None:
    if not name:
        return None
    with suppress(NotFound):
        pair = nova.get(f"/os-keypairs/{name}")["keypair"]
        return {"name": name, "type": pair.get("type") or "ssh", "public_key": pair["public_key"]}
    return {"name": name, "type": "ssh", "public_key": ""}


def _group(nova: Nova, ident: str) -> dict[str, Any]:
    group = nova.get(f"/os-server-groups/{ident}")["server_group"]
    return {"id": ident, "name": group["name"], "policy": group.get("policy"), "rules": group.get("rules") or {}}


def _ports(session: CloudSession, nova: Nova, ident: str) -> list[dict[str, Any]]:
    """In the order in which the guest has them, as far as Nova tells."""
    order = [row["port_id"] for row in nova.get(f"/servers/{ident}/os-interface")["interfaceAttachments"]]
    found = {
        port.id: {name: getattr(port, name) for name in _PORT}
        for port in session.connection.network.ports(device_id=ident)
    }
    return sorted(found.values(), key=lambda port: order.index(port["id"]) if port["id"] in order else len(order))


def _security_groups(session: CloudSession, ports: list[dict[str, Any]]) -> dict[str, str]:
    """Names by id, for the case that the ids are gone."""
    wanted = {ident for port in ports for ident in port["security_group_ids"] or ()}
    names: dict[str, str] = {}
    for ident in sorted(wanted):
        with suppress(NotFound, Forbidden):
            names[ident] = session.connection.network.get_security_group(ident).name
    return names


def _floating_ips(session: CloudSession, ports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {port["id"] for port in ports}
    if not known:
        return []
    return [
        {"id": ip.id, "address": ip.floating_ip_address, "port_id": ip.port_id, "fixed": ip.fixed_ip_address}
        for ip in session.connection.network.ips()
        if ip.port_id in known
    ]
