"""What prune would take away, pack by pack, with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from karbor.bank.vault.pack import PACK_TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from karbor.bank.vault.marks import Marks
    from karbor.bank.vault.repository import Repository

_SMALL = PACK_TARGET // 16
_MANY_SMALL = 16
"""Small packs that are worth joining."""

Reason = Literal["in no index file", "not needed", "mostly not needed", "small"]


class PackUse(msgspec.Struct, frozen=True):
    """A pack that may go: the bytes in it that snapshots need, all its bytes, and why."""

    pack: bytes
    used: int
    size: int
    reason: Reason


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Packs that go as they are, and packs whose living part is copied first. Sizes in bytes."""

    dead: tuple[PackUse, ...]
    repack: tuple[PackUse, ...]
    packs: int
    size: int
    snapshots: int

    @property
    def reclaimable(self) -> int:
        """Bytes that are free in the end."""
        return sum(use.size - use.used for use in (*self.dead, *self.repack))

    @property
    def going(self) -> frozenset[bytes]:
        """All packs that go."""
        return frozenset(use.pack for use in (*self.dead, *self.repack))


class PruneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a prune copies: from packs of which more than `dead_share` is dead, the deadest first, `copy_bytes` at most."""

    dead_share: float = 0.3
    copy_bytes: int = 16 << 30


def plan(repository: Repository, marks: Marks, snapshots: int, limits: PruneLimits) -> PrunePlan:
    """The plan for a repository whose needed blobs are marked."""
    stored = dict(stored_packs(repository))
    needed: dict[bytes, int] = {}
    for pack, used, _ in marks.usage():
        needed[pack] = needed.get(pack, 0) + used
    uses = [
        PackUse(pack, used, stored[pack], "mostly not needed" if used else "not needed")
        for pack, used in needed.items()
        if pack in stored
    ]
    unknown = (PackUse(pack, 0, size, "in no index file") for pack, size in stored.items() if pack not in needed)
    return PrunePlan(
        dead=tuple(sorted((*unknown, *(use for use in uses if not use.used)), key=lambda use: -use.size)),
        repack=tuple(_worth_copying([use for use in uses if use.used], limits)),
        packs=len(stored),
        size=sum(stored.values()),
        snapshots=snapshots,
    )


def _worth_copying(uses: list[PackUse], limits: PruneLimits) -> Iterator[PackUse]:
    small = [use for use in uses if use.size < _SMALL]
    joined = {use.pack for use in small} if len(small) >= _MANY_SMALL else set[bytes]()
    left = limits.copy_bytes
    for use in sorted(uses, key=lambda use: use.used / use.size):
        mostly_dead = use.used < use.size * (1 - limits.dead_share)
        if (mostly_dead or use.pack in joined) and use.used <= left:
            left -= use.used
            yield use if mostly_dead else msgspec.structs.replace(use, reason="small")


def stored_packs(repository: Repository) -> Iterator[tuple[bytes, int]]:
    """(pack, size) of every pack in the bank."""
    for stat in repository.documents.stats("data"):
        yield bytes.fromhex(stat.key[-64:]), stat.size
