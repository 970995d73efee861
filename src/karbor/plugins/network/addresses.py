"""Addresses remapped by a rule: ``10.9.0.0/24=10.19.0.0/24`` moves what lies in the first prefix into the second."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


class Remap:
    """Prefixes and what they become, comma separated; of prefixes within one another the longest counts."""

    def __init__(self, rule: str | None) -> None:
        moves = [_move(part) for part in (rule or "").replace(" ", "").split(",") if part]
        self._moves = sorted(moves, key=lambda move: -move[0].prefixlen)

    def address(self, value: str) -> str:
        """An address, or as it is where no rule names it."""
        return (
            self.prefix(value) if "/" in value else self.prefix(f"{value}/{ip_address(value).max_prefixlen}", bare=True)
        )

    def prefix(self, value: str, *, bare: bool = False) -> str:
        """A prefix that lies in one of the rules', moved; any other as it is."""
        known = ip_network(value, strict=False)
        for old, new in self._moves:
            if old.version == known.version and known.subnet_of(old):  # type: ignore[arg-type]
                start = int(known.network_address) - int(old.network_address) + int(new.network_address)
                moved = type(known.network_address)(start)
                return str(moved) if bare else f"{moved}/{known.prefixlen}"
        return value.split("/", 1)[0] if bare else value

    def within(self, item: Any) -> Any:
        """The same in a document of Neutron's, for every value that is an address or a prefix."""
        if isinstance(item, dict):
            return {key: self.within(value) for key, value in item.items()}
        if isinstance(item, list):
            return [self.within(value) for value in item]
        if not isinstance(item, str):
            return item
        try:
            return self.address(item)
        except ValueError:
            return item


def _move(part: str) -> tuple[IPv4Network | IPv6Network, IPv4Network | IPv6Network]:
    try:
        old, new = (ip_network(side) for side in part.split("=", 1))
    except ValueError as error:
        raise InvalidInput(f"{part!r} is no rule like 10.9.0.0/24=10.19.0.0/24", field="cidr_map") from error
    if (old.version, old.prefixlen) != (new.version, new.prefixlen):
        raise InvalidInput(f"{part!r}: both prefixes must be equally long", field="cidr_map")
    return old, new
