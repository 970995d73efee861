"""The document: what a project's network is made of, as far as its tenant can say it again."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.errors import ResourceFailed
from karbor.plugins.network.neutron import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from karbor.plugins.network.neutron import Item, Neutron

    Document = dict[str, Any]

_KEPT: dict[str, tuple[str, ...]] = {
    "networks": ("admin_state_up", "mtu", "port_security_enabled", "shared", "router:external", "qos_policy_id"),
    "subnets": ("network_id", "cidr", "ip_version", "gateway_ip", "allocation_pools", "dns_nameservers",
                "host_routes", "enable_dhcp", "ipv6_address_mode", "ipv6_ra_mode"),
    "routers": ("admin_state_up", "external_gateway_info", "routes"),
    "security_groups": ("stateful", "security_group_rules"),
    "ports": ("network_id", "device_id", "device_owner", "mac_address", "fixed_ips", "allowed_address_pairs",
              "port_security_enabled", "admin_state_up", "security_groups", "binding:vnic_type", "extra_dhcp_opts"),
    "floating_ips": ("floating_network_id", "floating_ip_address", "fixed_ip_address", "port_id", "port_forwardings"),
}  # fmt: skip
RULE = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix",
        "remote_group_id")  # fmt: skip
"""What makes two rules of a group the same one."""
_INTERFACE = "network:router_interface"
_INTERFACES = (_INTERFACE, f"{_INTERFACE}_distributed", "network:ha_router_replicated_interface")
_LARGE = 256 << 10


def collect(neutron: Neutron, project_id: str, network_id: str | None) -> Document:
    """The project's network, or the part of it that has to do with one of its networks: one listing per kind."""
    seen = neutron.seen("networks")
    own = {kind: neutron.own(kind) for kind in KINDS if kind != "networks"}
    own["networks"] = [row for row in seen if row["project_id"] == project_id]
    document: Document = {kind: [_kept(kind, row) for row in own[kind]] for kind in KINDS}
    document["ports"] = [port for port in document["ports"] if is_interface(port) or not _of_neutron(port)]
    if network_id is not None:
        document = _part(document, network_id)
    mine, used = {row["id"] for row in document["networks"]}, _networks_used(document)
    names = {row["id"]: row["name"] for row in seen if row["id"] in used - mine}
    return {"project_id": project_id, "network_id": network_id, "foreign_networks": names, **document}


def is_interface(port: Item) -> bool:
    """Whether the port is a router's."""
    return port["device_owner"] in _INTERFACES


def is_unused(port: Item) -> bool:
    """Whether nothing is behind the port: it was made for an address, and is restored with the network."""
    return not port["device_owner"] and not port["device_id"]


def interfaces(document: Document) -> Iterator[tuple[Item, Item, str]]:
    """Every router's interface: the router, the subnet, the router's address in it."""
    routers, subnets = by_id(document, "routers"), by_id(document, "subnets")
    for port in filter(is_interface, document["ports"]):
        for ip in port["fixed_ips"]:
            if port["device_id"] in routers and ip["subnet_id"] in subnets:
                yield routers[port["device_id"]], subnets[ip["subnet_id"]], ip["ip_address"]


def by_id(document: Document, kind: str) -> dict[str, Item]:
    """Items of a kind by their id."""
    return {row["id"]: row for row in document[kind]}


def rule_of(rule: Item) -> tuple[Any, ...]:
    """What the rule says."""
    return tuple(rule.get(name) for name in RULE)


def packed(document: Document) -> Document:
    """As it is saved: a large one compressed."""
    raw = msgspec.json.encode(document)
    if len(raw) <= _LARGE:
        return document
    return {"project_id": document["project_id"], "zlib": base64.b64encode(zlib.compress(raw, 9)).decode()}


def unpacked(saved: Mapping[str, Any]) -> Document:
    """As it was collected."""
    if "zlib" not in saved:
        return dict(saved)
    document: Document = msgspec.json.decode(zlib.decompress(base64.b64decode(saved["zlib"])))
    return document


def check(document: Document) -> int:
    """How many things the document has; `ResourceFailed` where one of them refers to what is not in it."""
    networks, subnets = {*by_id(document, "networks"), *document["foreign_networks"]}, by_id(document, "subnets")
    lost = [f"subnet {row['id']}" for row in document["subnets"] if row["network_id"] not in networks]
    lost += [f"router {row['id']}" for row in document["routers"] if _gateway(row) - networks]
    lost += [f"port {row['id']}" for row in document["ports"] if row["network_id"] not in networks]
    lost += [
        f"port {port['id']}"
        for port in filter(is_interface, document["ports"])
        if port["network_id"] not in document["foreign_networks"]
        and any(ip["subnet_id"] not in subnets for ip in port["fixed_ips"])
    ]
    if lost:
        raise ResourceFailed(f"the document refers to what it has not: {', '.join(lost[:5])}")
    return sum(len(document[kind]) for kind in KINDS)


def _kept(kind: str, row: Item) -> Item:
    kept = {name: row.get(name) for name in ("id", "name", "description", "tags", *_KEPT[kind])}
    if kind == "security_groups":
        kept["security_group_rules"] = [
            {name: rule.get(name) for name in ("id", "description", "remote_address_group_id", *RULE)}
            for rule in row["security_group_rules"]
        ]
    if kind == "routers" and row.get("external_gateway_info"):
        kept["external_gateway_info"] = {
            name: row["external_gateway_info"].get(name) for name in ("network_id", "enable_snat", "external_fixed_ips")
        }
    return kept


def _of_neutron(port: Item) -> bool:
    return str(port["device_owner"]).startswith("network:")


def _gateway(router: Item) -> set[str]:
    info = router["external_gateway_info"]
    return {info["network_id"]} if info else set()


def _networks_used(document: Document) -> set[str]:
    used = {row["network_id"] for kind in ("ports", "subnets") for row in document[kind]}
    used |= {row["floating_network_id"] for row in document["floating_ips"]}
    return used.union(*map(_gateway, document["routers"]))


def _part(document: Document, network_id: str) -> Document:
    """What has to do with one network: its routers only with their interfaces to it."""
    ports = [port for port in document["ports"] if port["network_id"] == network_id]
    routers = {port["device_id"] for port in ports if is_interface(port)}
    known, groups = by_id(document, "security_groups"), {group for port in ports for group in port["security_groups"]}
    fresh = groups & {*known}
    while fresh:  # also the groups that their rules speak of
        spoken = {rule["remote_group_id"] for group in fresh for rule in known[group]["security_group_rules"]}
        fresh = (spoken & {*known}) - groups
        groups |= fresh
    idents = {port["id"] for port in ports}
    return {
        "networks": [row for row in document["networks"] if row["id"] == network_id],
        "subnets": [row for row in document["subnets"] if row["network_id"] == network_id],
        "routers": [row for row in document["routers"] if row["id"] in routers],
        "security_groups": [row for row in document["security_groups"] if row["id"] in groups],
        "ports": ports,
        "floating_ips": [row for row in document["floating_ips"] if row["port_id"] in idents],
    }
