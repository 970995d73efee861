"""The ports of a restored server: those that the network's restore made, or new ones with the old addresses.

The network's restore registers a resource whose `extra_info` maps what it made: ``{"networks": {old: new}, "subnets":
…, "security_groups": …, "ports": …, "floating_ips": …, "cidr_map": rule}``. What it does not name is taken to be there
still, under its own id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.domain.resource import NETWORK
from karbor.errors import Conflict, NotFound, ResourceFailed
from karbor.plugins.network.addresses import Remap
from karbor.plugins.network.neutron import KINDS
from karbor.plugins.waiting import leftover

if TYPE_CHECKING:
    from karbor.sdk.op import Op


class Ports:
    """Makes, finds and removes the ports of one restore."""

    def __init__(self, op: Op) -> None:
        self._op = op
        self._network = op.session.connection.network
        self._saved: dict[str, Any] = op.saved["server"]
        self._map = _restored(op)
        self._remap = Remap(self._map.get("cidr_map"))

    def all(self) -> list[str]:
        """Ids of the ports, in the order of the old ones; made where they are not there."""
        other = self._op.options["restore_net_id"]
        if other:
            return [self._made(0, {"network_id": other, "security_group_ids": self._groups(self._saved["ports"][:1])})]
        return [self._port(number, port) for number, port in enumerate(self._saved["ports"])]

    def new_port(self, old: str, made: list[str]) -> str | None:
        """What an old port has become."""
        ids = [port["id"] for port in self._saved["ports"]]
        return made[ids.index(old)] if old in ids[: len(made)] else None

    def floating_ip(self, old: str) -> str:
        """What an old floating IP has become."""
        return self._mapped("floating_ips", old)

    def remove(self) -> None:
        """Remove what `all` made."""
        for number in range(max(len(self._saved["ports"]), 1)):
            ident = leftover(self._op, f"port {number}", self._find)
            if ident:
                self._network.delete_port(ident, ignore_missing=True)

    def _port(self, number: int, port: dict[str, Any]) -> str:
        ready = self._mapped("ports", port["id"])
        if ready != port["id"]:
            return ready
        body = {
            "name": port["name"] or "",
            "network_id": self._mapped("networks", port["network_id"]),
            "mac_address": port["mac_address"],
            "fixed_ips": [
                {
                    "subnet_id": self._mapped("subnets", ip["subnet_id"]),
                    "ip_address": self._remap.address(ip["ip_address"]),
                }
                for ip in port["fixed_ips"] or ()
            ],
            "allowed_address_pairs": self._remap.within(port["allowed_address_pairs"] or []),
            "is_port_security_enabled": port["is_port_security_enabled"],
            "description": port["description"] or "",
        }
        if port["is_port_security_enabled"]:
            body["security_group_ids"] = self._groups([port])
        return self._made(number, body)

    def _made(self, number: int, body: dict[str, Any]) -> str:
        """A new port; without the addresses that are taken, which is said."""

        def make(tag: str) -> str:
            described = f"{body.get('description', '')} {tag}".strip()
            for left_out in ((), ("mac_address",), ("mac_address", "fixed_ips")):
                fitting = {key: value for key, value in body.items() if key not in left_out}
                try:
                    return str(self._network.create_port(**{**fitting, "description": described}).id)
                except Conflict as error:
                    self._op.warn(f"port of {self._saved['name']}: {error.message}: it gets other addresses")
            raise ResourceFailed(f"no port can be made in network {body['network_id']}")

        return self._op.once(f"port {number}", make, self._find)

    def _find(self, tag: str) -> str | None:
        found = self._network.ports(project_id=self._op.session.project_id)
        return next((str(port.id) for port in found if (port.description or "").endswith(tag)), None)

    def _groups(self, ports: list[dict[str, Any]]) -> list[str]:
        """Security groups: as mapped, as they are, or of the same name; those that are gone are said."""
        found: dict[str, None] = {}
        for old in (ident for port in ports for ident in port["security_group_ids"] or ()):
            ident = self._group(old)
            if ident:
                found[ident] = None
        return list(found)

    def _group(self, old: str) -> str | None:
        mapped = self._mapped("security_groups", old)
        try:
            return str(self._network.get_security_group(mapped).id)
        except NotFound:
            name = self._saved["security_groups"].get(old, "")
            project = self._op.session.project_id
            same = list(self._network.security_groups(name=name, project_id=project)) if name else []
            if same:
                return str(same[0].id)
            self._op.warn(f"security group {name or old} of {self._saved['name']} is gone")
            return None

    def _mapped(self, kind: str, ident: str) -> str:
        return str(self._map.get(kind, {}).get(ident, ident))


def _restored(op: Op) -> dict[str, Any]:
    """What the restores of the project's topology, or of the server's networks one by one, have registered."""
    idents = {port["network_id"]: None for port in op.saved["server"]["ports"]}
    known = [op.restored(f"{NETWORK}#{ident}") for ident in (op.saved["project_id"], *idents)]
    maps = [one.extra_info for one in known if one is not None and one.extra_info]
    merged: dict[str, Any] = {"cidr_map": ",".join(rules["cidr_map"] for rules in maps if rules.get("cidr_map"))}
    for kind in KINDS:
        merged[kind] = {old: new for ids in maps for old, new in ids.get(kind, {}).items()}
    return merged
