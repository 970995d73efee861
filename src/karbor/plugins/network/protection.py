"""Protects networks: their topology as a document, from which what is missing is made again.

The ports of servers come back with the server, at the addresses that this plugin registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import NETWORK, Resource
from karbor.errors import InvalidInput, NotFound, ResourceFailed
from karbor.plugins.network.decide import Decider, Decisions, new_name
from karbor.plugins.network.neutron import KINDS, Neutron
from karbor.plugins.network.rebuild import Rebuild, new_ids
from karbor.plugins.network.topology import check, collect, is_unused, packed, unpacked
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.plugins.network.topology import Document
    from karbor.sdk.op import Look, Op

_WORDS = {"networks": "network", "subnets": "subnet", "routers": "router", "security_groups": "security group",
          "ports": "port", "floating_ips": "floating IP"}  # fmt: skip


class NetworkRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_name: Annotated[
        str | None,
        msgspec.Meta(title="Restore Network Name", description="Of the one network that was protected, if it was one."),
    ] = None
    public_network_id: Annotated[
        str | None,
        msgspec.Meta(title="Public Network ID", description="The external network of gateways and floating IPs."),
    ] = None
    network_map: Annotated[
        str | None,
        msgspec.Meta(title="Network Map", description="Living networks to use instead: old=new, by id or name."),
    ] = None
    cidr_map: Annotated[
        str | None,
        msgspec.Meta(title="Address Map", description="Addresses to move: 10.9.0.0/24=10.19.0.0/24, ..."),
    ] = None
    name_suffix: Annotated[
        str | None, msgspec.Meta(title="Name Suffix", description="Appended to the names of what is made.")
    ] = None


class NetworkProtection(Protection):
    """A project's whole network, under the project's id as in v1, or one network with what belongs to it."""

    name = "karbor-network-protection-plugin"
    section = "neutron_backup_protection_plugin"
    types = (NETWORK,)
    restore_options = NetworkRestore
    settle_seconds = 10.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """What would be written down."""
        try:
            document = _document(op)
        except NotFound as error:
            return [_item(op, "refuse", op.resource.name, error.message)]
        counts = ", ".join(f"{len(document[kind])} {_WORDS[kind]}s" for kind in KINDS if document[kind])
        return [_item(op, "read", op.resource.name or op.resource.id, counts)]

    def protect_main(self, op: Op) -> None:
        """Write down what there is."""
        op.save(packed(_document(op)), location="none", consistency="crash")

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """What would be made, what is there, what is in the way."""
        document = unpacked(op.saved)
        try:
            decisions = _decide(op, document)
        except InvalidInput as error:
            return [_item(op, "refuse", op.resource.name, error.message)]
        return [*_lines(op, document, decisions)]

    def restore_prepare_finish(self, op: Op) -> None:
        """Make what is missing, before any server asks for its ports; nothing at all where something is in the way."""
        document = unpacked(op.saved)
        decisions = _decided(op, document)
        if decisions.refused:
            raise ResourceFailed("; ".join(decisions.refused))
        rebuild = Rebuild(op, document, decisions)
        rebuild.build()
        ident, name = op.session.project_id, op.resource.name
        if document["network_id"]:
            ident = rebuild.new["networks"][document["network_id"]]
            name = new_name(document["networks"][0]["name"], op.options, document, "networks")
        extra = new_ids(rebuild.new, op.options["cidr_map"])
        op.register(Resource(type=NETWORK, id=ident, name=name, extra_info=extra))

    def restore_undo(self, op: Op) -> None:
        """Remove what was made; what had been there stays."""
        document = unpacked(op.saved)
        decisions = _decided(op, document)
        if not decisions.refused:
            Rebuild(op, document, decisions).remove()

    def verify_main(self, op: Op) -> None:
        """The document is whole in itself, and how much of it is there under its id. Bytes there are none."""
        document = unpacked(op.saved)
        total = check(document)
        decisions = _decide(op, document, plain=True)
        there = sum(len(decisions.there[kind].keys() & {row["id"] for row in document[kind]}) for kind in KINDS)
        if there < total:
            op.warn(f"the document is whole; {there} of its {total} things are in the project now")


def _document(op: Look | Op) -> Document:
    network = None if op.resource.id == op.session.project_id else op.resource.id
    document = collect(Neutron(op.session), op.session.project_id, network)
    if network and not document["networks"]:
        raise NotFound(f"network {network} is none of the project's own")
    return document


def _decided(op: Op, document: Document) -> Decisions:
    """As first seen: a replay must not take what it made for what was there."""
    seen = op.read("decisions", lambda: msgspec.to_builtins(_decide(op, document)))
    return msgspec.convert(seen, Decisions)


def _decide(op: Look | Op, document: Document, *, plain: bool = False) -> Decisions:
    options = msgspec.structs.asdict(NetworkRestore()) if plain else op.options
    return Decider(Neutron(op.session), op.session.project_id, document, options).decide()


def _lines(op: Look, document: Document, decisions: Decisions) -> Iterator[PreflightItem]:
    for why in decisions.refused:
        yield _item(op, "refuse", op.resource.name or op.resource.id, why)
    for kind in KINDS:
        for row in document[kind]:
            if kind == "ports" and not is_unused(row):
                continue
            known = decisions.there[kind].get(row["id"])
            name = row["name"] or row.get("floating_ip_address") or row["id"]
            if known:
                yield _item(op, "reuse", f"{_WORDS[kind]} {name}", "" if known == row["id"] else f"as {known}")
            else:
                yield _item(op, "create", f"{_WORDS[kind]} {new_name(name, op.options, document, kind)}")
    for router, subnet, address in decisions.interfaces:
        yield _item(op, "create", f"interface {address} of router {router} to subnet {subnet}")
    for group, rules in decisions.rules.items():
        yield _item(op, "create", f"{len(rules)} rules in security group {group}", "they are missing there")


def _item(op: Look, action: Any, what: str, reason: str = "") -> PreflightItem:
    return PreflightItem(resource=op.resource.key, action=action, what=what, reason=reason)
