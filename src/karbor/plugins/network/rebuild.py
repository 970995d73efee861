"""Makes again what a document has and the project has not, and removes what was made.

Neutron's things have a description in their create body: it carries the tag until the thing has been recorded, then
it becomes the old one again. Interfaces are found by router and subnet, rules by what they say.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from karbor.errors import Conflict, Forbidden, NotFound, ResourceFailed
from karbor.plugins.network.addresses import Remap
from karbor.plugins.network.decide import moved_rule, new_name
from karbor.plugins.network.neutron import KINDS, Neutron
from karbor.plugins.network.topology import by_id, is_unused, rule_of
from karbor.plugins.waiting import leftover

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from karbor.plugins.network.decide import Decisions
    from karbor.plugins.network.neutron import Item
    from karbor.plugins.network.topology import Document
    from karbor.sdk.op import Op

_SUBNET = ("ip_version", "enable_dhcp", "ipv6_address_mode", "ipv6_ra_mode")
_PORT = ("mac_address", "admin_state_up", "binding:vnic_type", "extra_dhcp_opts")


class Rebuild:
    """One restore. `new` maps old ids to those that stand for them, by kind; it grows as things are made."""

    def __init__(self, op: Op, document: Document, decisions: Decisions) -> None:
        self._op, self._document, self._decisions = op, document, decisions
        self._neutron, self._remap = Neutron(op.session), Remap(op.options["cidr_map"])
        self.new = {kind: dict(decisions.there[kind]) for kind in KINDS}

    def build(self) -> None:
        """In the order of what needs what."""
        for network in self._missing("networks"):
            self._network(network)
        for group in self._missing("security_groups"):
            body = {} if group["stateful"] is None else {"stateful": group["stateful"]}
            self._make("security_groups", group, body)
        self._rules()
        for subnet in self._missing("subnets"):
            self._make("subnets", subnet, self._subnet(subnet))
        for router in self._missing("routers"):
            self._make("routers", router, {"admin_state_up": router["admin_state_up"]})
            self._gateway(router)
        for interface in self._decisions.interfaces:
            self._interface(*interface)
        for router in self._document["routers"]:
            self._routes(router)
        for port in filter(is_unused, self._missing("ports")):
            self._port(port)
        for floating in self._missing("floating_ips"):
            self._floating(floating)
        for floating in self._document["floating_ips"]:
            self._attach(floating)

    # --- one thing

    def _missing(self, kind: str) -> list[Item]:
        there = self._decisions.there[kind]
        return [row for row in self._document[kind] if row["id"] not in there]

    def _make(self, kind: str, old: Item, body: Item, make: Callable[[Item], Item] | None = None) -> Item:
        """Make one thing with its tag, then give it its own description and tags."""
        create = make or partial(self._neutron.create, kind)
        named = (
            {"name": new_name(old["name"], self._op.options, self._document, kind)} if kind != "floating_ips" else {}
        )

        def tagged(tag: str) -> str:
            return str(create({**named, **body, "description": tag})["id"])

        ident = self._op.once(f"{kind} {old['id']}", tagged, partial(self._neutron.find, kind))
        self.new[kind][old["id"]] = ident
        if old["tags"]:
            self._neutron.set_tags(kind, ident, old["tags"])
        return self._neutron.update(kind, ident, description=old["description"] or "")

    def _network(self, old: Item) -> None:
        body = {name: old[name] for name in ("admin_state_up", "port_security_enabled") if old[name] is not None}
        made = self._make("networks", old, body)
        mtu = made["mtu"]
        if mtu > old["mtu"]:
            self._neutron.update("networks", made["id"], mtu=old["mtu"])
        elif mtu < old["mtu"]:
            self._op.warn(f"network {old['name']}: frames have {mtu} bytes here at most, not {old['mtu']}")
        if old["shared"]:
            self._op.warn(f"network {old['name']} was shared with other projects: the new one is not")
        if old["router:external"]:
            self._op.warn(f"network {old['name']} was an external one: the new one is not")
        if old["qos_policy_id"]:
            self._op.warn(f"network {old['name']} had QoS policy {old['qos_policy_id']}: the new one has none")

    def _subnet(self, old: Item) -> Item:
        moved = self._remap.within({name: old[name] for name in ("gateway_ip", "allocation_pools", "host_routes")})
        body = {name: old[name] for name in _SUBNET if old[name] is not None}
        names = [self._remap.within(server) for server in old["dns_nameservers"] or ()]
        network, cidr = self.new["networks"][old["network_id"]], self._remap.prefix(old["cidr"])
        return {**body, **moved, "network_id": network, "cidr": cidr, "dns_nameservers": names}

    def _gateway(self, old: Item) -> None:
        """With the old address where the caller may say so, else with another one."""
        was = old["external_gateway_info"]
        if not was:
            return
        ident, network = self.new["routers"][old["id"]], self.new["networks"][was["network_id"]]
        addresses = [ip["ip_address"] for ip in was["external_fixed_ips"] or ()]
        wanted = {"network_id": network, "external_fixed_ips": [{"ip_address": address} for address in addresses]}
        try:
            self._neutron.update("routers", ident, external_gateway_info={**wanted, "enable_snat": was["enable_snat"]})
        except (Conflict, Forbidden, NotFound, ResourceFailed):
            info = self._neutron.update("routers", ident, external_gateway_info={"network_id": network})
            now = info["external_gateway_info"]
            got = [ip["ip_address"] for ip in now["external_fixed_ips"]]
            if got != addresses:
                self._op.warn(f"router {old['name']} is {', '.join(got)} outside now, not {', '.join(addresses)}")
            if was["enable_snat"] is not None and now.get("enable_snat") != was["enable_snat"]:
                self._op.warn(f"router {old['name']}: this cloud does not let the tenant choose enable_snat")

    def _interface(self, router: str, subnet: str, address: str) -> None:
        """By its subnet where its address is the subnet's gateway, else by a port with that address."""
        new_router, new_subnet = self.new["routers"][router], self.new["subnets"][subnet]
        old = by_id(self._document, "subnets")[subnet]

        def make(tag: str) -> str:
            gateway = old["gateway_ip"] and self._remap.address(old["gateway_ip"])
            if gateway == address:
                return self._neutron.connect(new_router, subnet_id=new_subnet)
            place = {"subnet_id": new_subnet, "ip_address": address}
            network = self.new["networks"][old["network_id"]]
            port = self._neutron.create("ports", {"network_id": network, "fixed_ips": [place], "description": tag})
            return self._neutron.connect(new_router, port_id=port["id"])

        self._op.once(_interface(router, subnet), make, partial(self._find_interface, new_router, new_subnet))

    def _find_interface(self, router: str, subnet: str, tag: str) -> str | None:
        """The port that connects them; one that was made and not connected is removed, to be made again."""
        for port in self._neutron.all("ports", device_id=router):
            if any(ip["subnet_id"] == subnet for ip in port["fixed_ips"]):
                return str(port["id"])
        half = self._neutron.find("ports", tag)
        if half:
            self._neutron.delete("ports", half)
        return None

    def _routes(self, old: Item) -> None:
        """Those through what has been connected; a router keeps what it has besides."""
        wanted = self._remap.within(old["routes"] or [])
        made = old["id"] not in self._decisions.there["routers"]
        if not wanted or not (made or any(router == old["id"] for router, _, _ in self._decisions.interfaces)):
            return
        ident = self.new["routers"][old["id"]]
        has = self._neutron.show("routers", ident)["routes"]
        missing = [route for route in wanted if route not in has]
        if not missing:
            return
        try:
            self._neutron.update("routers", ident, routes=[*has, *missing])
        except ResourceFailed as error:
            self._op.warn(f"router {old['name']} has not got its routes back: {error.message}")

    def _port(self, old: Item) -> None:
        """With its addresses, or without those that are taken."""
        groups = [self.new["security_groups"].get(group, group) for group in old["security_groups"]]
        body: Item = {name: old[name] for name in _PORT if old[name] is not None}
        body["network_id"] = self.new["networks"][old["network_id"]]
        body["fixed_ips"] = [
            {"subnet_id": self.new["subnets"].get(ip["subnet_id"], ip["subnet_id"]), "ip_address": self._remap.address(ip["ip_address"])}
            for ip in old["fixed_ips"]
        ]  # fmt: skip
        body["allowed_address_pairs"] = self._remap.within(old["allowed_address_pairs"] or [])
        if old["port_security_enabled"] is not None:
            body["port_security_enabled"] = old["port_security_enabled"]
        if old["port_security_enabled"] is not False:
            body["security_groups"] = groups
        self._make("ports", old, body, self._fitting_port)

    def _fitting_port(self, body: Item) -> Item:
        for left_out in ((), ("mac_address",), ("mac_address", "fixed_ips")):
            try:
                return self._neutron.create("ports", {key: row for key, row in body.items() if key not in left_out})
            except (Conflict, Forbidden) as error:
                self._op.warn(f"port {body['name']}: {error.message}: it gets other addresses")
        raise ResourceFailed(f"no port can be made in network {body['network_id']}")

    def _floating(self, old: Item) -> None:
        """With the old address where the caller may have it."""
        network = self.new["networks"][old["floating_network_id"]]
        address = old["floating_ip_address"]

        def make(body: Item) -> Item:
            try:
                return self._neutron.create("floating_ips", {**body, "floating_ip_address": address})
            except (Conflict, Forbidden, NotFound, ResourceFailed):
                made = self._neutron.create("floating_ips", body)
                self._op.warn(f"floating IP {address} is {made['floating_ip_address']} now")
                return made

        self._make("floating_ips", old, {"floating_network_id": network}, make)
        if old["port_forwardings"]:
            self._op.warn(f"floating IP {address} forwarded ports: the new one does not")

    def _attach(self, old: Item) -> None:
        """A floating IP that is behind nothing goes to the port that was restored for it; servers fetch theirs."""
        ident, port = self.new["floating_ips"][old["id"]], self.new["ports"].get(old["port_id"] or "")
        if port and self._neutron.show("floating_ips", ident)["port_id"] is None:
            self._neutron.update("floating_ips", ident, port_id=port)

    # --- rules

    def _rules(self) -> None:
        for group in self._document["security_groups"]:
            old, ident = group["id"], self.new["security_groups"][group["id"]]
            missing = self._decisions.rules.get(old, [])
            if old not in self._decisions.there["security_groups"]:
                self._exactly(ident, group["security_group_rules"])
            elif missing:
                once = f"rules {old}"
                self._op.once(once, partial(self._add, ident, missing), partial(self._have, ident, missing))

    def _exactly(self, group: str, rules: list[Item]) -> None:
        """A new group has rules that nobody asked for: it gets those of the old one and no others."""
        self._add(group, rules, "")
        wanted = {rule_of(rule) for rule in self._moved(rules)}
        for rule in self._neutron.show("security_groups", group)["security_group_rules"]:
            if rule_of(rule) not in wanted:
                self._neutron.delete("security_group_rules", rule["id"])

    def _add(self, group: str, rules: list[Item], _tag: str) -> list[str]:
        has = {rule_of(rule) for rule in self._neutron.show("security_groups", group)["security_group_rules"]}
        missing = [rule for rule in self._moved(rules) if rule_of(rule) not in has]
        if missing:
            self._neutron.create_rules([_rule_body(rule, group) for rule in missing])
        return self._have(group, rules, "") or []

    def _have(self, group: str, rules: list[Item], _tag: str) -> list[str] | None:
        """Ids of these rules of a group, where it has them all."""
        has = {
            rule_of(rule): rule["id"] for rule in self._neutron.show("security_groups", group)["security_group_rules"]
        }
        wanted = [rule_of(rule) for rule in self._moved(rules)]
        return [has[rule] for rule in wanted] if all(rule in has for rule in wanted) else None

    def _moved(self, rules: list[Item]) -> list[Item]:
        return [moved_rule(rule, self.new["security_groups"], self._remap) for rule in rules]

    # --- undo

    def remove(self) -> None:
        """Remove what was made, the last first."""
        for kind in KINDS:
            for old in self._missing(kind):
                ident = leftover(self._op, f"{kind} {old['id']}", partial(self._neutron.find, kind))
                if ident:
                    self.new[kind][old["id"]] = ident
        self._delete("floating_ips", "ports")
        self._disconnect()
        self._delete("routers", "subnets", "networks")
        for group in self._decisions.rules:
            for rule in self._op.made(f"rules {group}") or ():
                self._neutron.delete("security_group_rules", rule)
        self._delete("security_groups")

    def _delete(self, *kinds: str) -> None:
        for kind in kinds:
            for old in self._missing(kind):
                if old["id"] in self.new[kind]:
                    self._neutron.delete(kind, self.new[kind][old["id"]])

    def _disconnect(self) -> None:
        made: dict[str, list[str]] = {}
        for router, subnet, _ in self._decisions.interfaces:
            new_router, new_subnet = self.new["routers"].get(router), self.new["subnets"].get(subnet)
            if new_router and new_subnet:
                find = partial(self._find_interface, new_router, new_subnet)
                port = leftover(self._op, _interface(router, subnet), find)
                if port:
                    made.setdefault(router, []).append(port)
        for old, ports in made.items():
            self._unroute(old)
            for port in ports:
                self._neutron.disconnect(self.new["routers"][old], port)

    def _unroute(self, router: str) -> None:
        """Routes keep an interface: those that the restore brought go first."""
        ident = self.new["routers"][router]
        brought = self._remap.within(by_id(self._document, "routers")[router]["routes"] or [])
        try:
            has = self._neutron.show("routers", ident)["routes"]
        except NotFound:
            return
        left = [route for route in has if route not in brought]
        if left != has:
            self._neutron.update("routers", ident, routes=left)


def new_ids(new: Mapping[str, Mapping[str, str]], remap: str | None) -> dict[str, Any]:
    """What is registered, for the ports of servers."""
    return {**{kind: dict(ids) for kind, ids in new.items()}, "cidr_map": remap or ""}


def _interface(router: str, subnet: str) -> str:
    return f"interface {router} {subnet}"


def _rule_body(rule: Item, group: str) -> Item:
    given = {name: value for name, value in rule.items() if value is not None and name != "id"}
    return {**given, "security_group_id": group}
