"""Workers are killed at any line; nothing is lost, nothing is done twice, nothing is left behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.faults.chaos import Chaos

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("KILLS", "60"))


@pytest.mark.timeout(1200)
def test_nothing_is_lost_doubled_or_left_behind(database_url: str, tmp_path: Path) -> None:
    chaos = Chaos(tmp_path / "chaos", "" if database_url.startswith("sqlite") else database_url, seed=KILLS)
    try:
        audit = chaos.run(KILLS // 3, seconds=KILLS * 10)
    finally:
        chaos.close()
    print(msgspec.json.encode(audit).decode())
    assert audit.kills >= KILLS // 3
    assert (audit.lost, audit.duplicates, audit.orphans, audit.stuck, audit.wrong) == (0, 0, 0, 0, [])
