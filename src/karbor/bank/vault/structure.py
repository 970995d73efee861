"""Whether everything below a tree is there: every directory readable, every blob indexed, every pack in the bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.bank.vault.marks import Marks
from karbor.bank.vault.prune_plan import stored_packs
from karbor.bank.vault.reach import Lost, Reach
from karbor.errors import Damaged

if TYPE_CHECKING:
    from karbor.bank.vault.repository import Repository


def require_whole(repository: Repository, tree: bytes) -> None:
    """Raise `Damaged` or `ObjectMissing` naming the first bank object that the tree needs and that is not as it must
    be. Directories are read and hashed again, data is not: its packs must exist.
    """
    repository.refresh_index()
    marks = Marks(repository.index)

    def lost(blob: Lost) -> None:
        raise Damaged(blob.key, blob.reason)

    Reach(repository, marks, lost).add([tree])
    needed = {pack for pack, used, _ in marks.usage() if used}
    for pack in needed - {pack for pack, _ in stored_packs(repository)}:
        repository.bank.stat(repository.pack_path(pack))  # a listing may lag behind: what it lacks is asked for
