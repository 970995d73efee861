"""What a restore would do: what is still there, what has to be made, and what is in the way.

What is there under its old id stays as it is; what it lacks (an interface, a rule, a subnet) is added.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec

from karbor.errors import InvalidInput
from karbor.plugins.network.addresses import Remap
from karbor.plugins.network.neutron import KINDS
from karbor.plugins.network.topology import by_id, interfaces, is_unused, rule_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from karbor.plugins.network.neutron import Item, Neutron
    from karbor.plugins.network.topology import Document

_QUOTAS = {"networks": "network", "subnets": "subnet", "routers": "router", "security_groups": "security_group",
           "floating_ips": "floatingip"}  # fmt: skip
_NAMED = {"networks": "network", "routers": "router", "security_groups": "security group"}


class Decisions(msgspec.Struct, kw_only=True):
    """Old ids with the living ones that stand for them, what else is to be made, and why nothing may be made."""

    there: dict[str, dict[str, str]]
    interfaces: list[tuple[str, str, str]] = []
    """Old router, old subnet, address: those that are missing."""
    rules: dict[str, list[dict[str, Any]]] = {}
    """Rules that living groups lack, by the old id of the group."""
    refused: list[str] = []


def new_name(name: str, options: Mapping[str, Any], document: Document, kind: str) -> str:
    """What a thing is called that is made: `restore_name` counts for the one network that was protected."""
    if kind == "networks" and document["network_id"] and options["restore_name"]:
        return str(options["restore_name"])
    return f"{name}{options['name_suffix'] or ''}" if name else ""


class Decider:
    """Compares a document with what the session's project has. Nothing is changed."""

    def __init__(self, neutron: Neutron, project_id: str, document: Document, options: Mapping[str, Any]) -> None:
        self._neutron, self._document, self._options = neutron, document, options
        self._remap = Remap(options["cidr_map"])
        self._own = {kind: neutron.own(kind) for kind in KINDS if kind not in {"networks", "subnets"}}
        self._own["networks"] = [row for row in neutron.seen("networks") if row["project_id"] == project_id]
        self._own["subnets"] = neutron.seen("subnets")
        self._out = Decisions(there={kind: self._still(kind) for kind in KINDS})

    def decide(self) -> Decisions:
        """Everything, at once."""
        for look in (self._networks, self._subnets, self._default_group, self._interfaces, self._rules,
                     self._overlaps, self._names, self._quota):  # fmt: skip
            look()
        return self._out

    def _still(self, kind: str) -> dict[str, str]:
        """What is still there; not a network that others stand for."""
        living = {row["id"] for row in self._own[kind]}
        return {row["id"]: row["id"] for row in self._document[kind] if row["id"] in living}

    def _refuse(self, why: str) -> None:
        self._out.refused.append(why)

    def _networks(self) -> None:
        """Networks of others by id, by the caller's choice, or by name; own ones that the caller maps."""
        seen, there = self._neutron.seen("networks"), self._out.there["networks"]
        chosen = _pairs(self._options["network_map"])
        for ident, name in [*self._document["foreign_networks"].items(), *_names(self._document["networks"])]:
            wanted = chosen.get(ident) or chosen.get(name)
            if wanted:
                found = [row["id"] for row in seen if wanted in {row["id"], row["name"]}]
                if len(found) == 1:
                    there[ident] = found[0]
                else:
                    self._refuse(f"network_map: {wanted} names {len(found)} networks")
            elif ident in self._document["foreign_networks"]:
                self._foreign(ident, name, seen)

    def _foreign(self, ident: str, name: str, seen: list[Item]) -> None:
        there, public = self._out.there["networks"], self._options["public_network_id"]
        if public and ident in self._outside():
            if any(row["id"] == public for row in seen):
                there[ident] = public
            else:
                self._refuse(f"there is no network {public} (public_network_id)")
            return
        same = [row for row in seen if row["id"] == ident] or [row for row in seen if row["name"] == name]
        if len(same) == 1:
            there[ident] = same[0]["id"]
        else:
            hint = "choose one with public_network_id" if ident in self._outside() else "choose one with network_map"
            self._refuse(f"network {name} ({ident}) is not the project's own and {len(same)} are called so: {hint}")

    def _outside(self) -> set[str]:
        """Old ids of networks that gateways and floating IPs are in."""
        routers = (row["external_gateway_info"] for row in self._document["routers"])
        floating = {row["floating_network_id"] for row in self._document["floating_ips"]}
        return {info["network_id"] for info in routers if info} | floating

    def _subnets(self) -> None:
        """In a network that stands for another one, the subnet of the same prefix stands for the old one."""
        there = self._out.there
        for subnet in self._document["subnets"]:
            network = there["networks"].get(subnet["network_id"])
            if subnet["id"] in there["subnets"] or network is None:
                continue
            cidr = self._remap.prefix(subnet["cidr"])
            for other in (row for row in self._own["subnets"] if row["network_id"] == network):
                if other["cidr"] == cidr:
                    there["subnets"][subnet["id"]] = other["id"]
                elif _overlap(other["cidr"], cidr):
                    self._refuse(
                        f"subnet {subnet['name']} {cidr} overlaps {other['name']} {other['cidr']}: use cidr_map"
                    )
            if subnet["id"] not in there["subnets"] and all(row["id"] != network for row in self._own["networks"]):
                self._refuse(f"network {network} is not the project's own and has no subnet {cidr}")

    def _default_group(self) -> None:
        """Every project has one of its own, which nobody can make."""
        there = self._out.there["security_groups"]
        living = [row["id"] for row in self._own["security_groups"] if row["name"] == "default"]
        for group in self._document["security_groups"]:
            if group["name"] == "default" and group["id"] not in there and living:
                there[group["id"]] = living[0]

    def _interfaces(self) -> None:
        """Those that are missing; an address that another port has keeps a living subnet from being connected."""
        there, taken = self._out.there, dict(self._addresses())
        connected = {(port["device_id"], subnet) for (subnet, _), port in taken.items()}
        for router, subnet, address in interfaces(self._document):
            living_router, living = there["routers"].get(router["id"]), there["subnets"].get(subnet["id"])
            if living_router and (living_router, living) in connected:
                continue
            moved = self._remap.address(address)
            port = taken.get((living, moved)) if living else None
            if port is not None:
                self._refuse(
                    f"{moved} in subnet {subnet['name']} belongs to port {port['id']}, not to {router['name']}"
                )
                continue
            self._out.interfaces.append((router["id"], subnet["id"], moved))

    def _addresses(self) -> Iterator[tuple[tuple[str, str], Item]]:
        for port in self._own["ports"]:
            for ip in port["fixed_ips"]:
                yield (ip["subnet_id"], ip["ip_address"]), port

    def _rules(self) -> None:
        """What living groups lack; a group that is made anew has an id that no rule can name yet."""
        living, there = {row["id"]: row for row in self._own["security_groups"]}, self._out.there["security_groups"]
        for group in self._document["security_groups"]:
            ident = there.get(group["id"])
            if ident is None:
                continue
            has = {rule_of(rule) for rule in living[ident]["security_group_rules"]}
            missing = [rule for rule in group["security_group_rules"] if self._rule(rule, there) not in has]
            if missing:
                self._out.rules[group["id"]] = missing

    def _rule(self, rule: Item, groups: Mapping[str, str]) -> tuple[Any, ...]:
        return rule_of(moved_rule(rule, groups, self._remap))

    def _overlaps(self) -> None:
        """Prefixes behind one router: those to be connected against one another and against the living ones."""
        behind: dict[str, list[tuple[str, str]]] = {}
        subnets, living = by_id(self._document, "subnets"), {row["id"]: row for row in self._own["subnets"]}
        for old, new in self._out.there["routers"].items():
            ports = [port for port in self._own["ports"] if port["device_id"] == new]
            known = [living[ip["subnet_id"]] for port in ports for ip in port["fixed_ips"] if ip["subnet_id"] in living]
            behind[old] = [(row["name"], row["cidr"]) for row in known]
        for router, subnet, _ in self._out.interfaces:
            name, cidr = subnets[subnet]["name"], self._remap.prefix(subnets[subnet]["cidr"])
            for other, prefix in behind.setdefault(router, []):
                if _overlap(prefix, cidr):
                    which = by_id(self._document, "routers")[router]["name"]
                    self._refuse(f"router {which}: subnet {name} {cidr} overlaps {other} {prefix}: use cidr_map")
            behind[router].append((name, cidr))

    def _names(self) -> None:
        """A second thing of the same name is what nobody can tell apart: so it is not made unasked."""
        for kind, word in _NAMED.items():
            living = {row["name"] for row in self._own[kind]}
            for row in self._document[kind]:
                name = new_name(row["name"], self._options, self._document, kind)
                if row["id"] not in self._out.there[kind] and name and name in living:
                    self._refuse(f"there is another {word} {name}: choose name_suffix, or map it")

    def _quota(self) -> None:
        left = self._neutron.quota()
        needed = {_QUOTAS[kind]: len(self._document[kind]) - len(self._in_document(kind)) for kind in _QUOTAS}
        free_ports = [port for port in self._document["ports"] if is_unused(port)]
        missing = [port for port in free_ports if port["id"] not in self._out.there["ports"]]
        needed["port"] = len(missing) + len(self._out.interfaces)
        for name, count in needed.items():
            if count > left.get(name, count):
                self._refuse(f"the quota of {name} does not suffice: {count - left[name]} are missing")

    def _in_document(self, kind: str) -> set[str]:
        return {row["id"] for row in self._document[kind]} & {*self._out.there[kind]}


def moved_rule(rule: Item, groups: Mapping[str, str], remap: Remap) -> Item:
    """A rule with the group and the prefix that it is about now."""
    group, prefix = rule["remote_group_id"], rule["remote_ip_prefix"]
    return {
        **rule,
        "remote_group_id": groups.get(group, group) if group else None,
        "remote_ip_prefix": remap.prefix(prefix) if prefix else None,
    }


def _names(rows: list[Item]) -> Iterator[tuple[str, str]]:
    for row in rows:
        yield row["id"], row["name"]


def _pairs(rule: str | None) -> dict[str, str]:
    parts = [part.strip() for part in (rule or "").split(",") if part.strip()]
    if any("=" not in part for part in parts):
        raise InvalidInput(f"{rule!r} is no rule like old=new, old=new", field="network_map")
    return {part.split("=", 1)[0].strip(): part.split("=", 1)[1].strip() for part in parts}


def _overlap(one: str, other: str) -> bool:
    first, second = ip_network(one), ip_network(other)
    return first.version == second.version and first.overlaps(second)
