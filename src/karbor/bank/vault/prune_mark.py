"""The mark: the list of packs that prune is about to take away, which writers must not rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from karbor.errors import Damaged, ObjectMissing

if TYPE_CHECKING:
    from karbor.bank.vault.documents import Documents

_PLACE = ("karbor", "mark")
_MAX_MARK = 256 << 20


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The packs that are to go, as 64 hexadecimal digits; `time` in Unix nanoseconds."""

    epoch: int
    time: int
    packs: tuple[str, ...]
    swept: bool = False

    @property
    def pack_ids(self) -> frozenset[bytes]:
        """The packs by their ids."""
        return frozenset(map(bytes.fromhex, self.packs))


def read_mark(documents: Documents) -> Mark | None:
    """The last mark. It holds for writers after the sweep too: a listing of index files may lag behind."""
    path = documents.path(*_PLACE)
    try:
        sealed = documents.bank.get(path, limit=_MAX_MARK)
        mark = msgspec.json.decode(documents.open(sealed, path), type=Mark)
        if any(len(pack) != 32 for pack in mark.pack_ids):
            raise Damaged(path, "it lists what is no pack")
    except ObjectMissing:
        return None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Damaged(path, "it holds no mark") from None
    return mark


def write_mark(documents: Documents, mark: Mark) -> None:
    """Replace the mark."""
    _, sealed = documents.seal(msgspec.json.encode(mark))
    documents.put_sealed(*_PLACE, sealed)
