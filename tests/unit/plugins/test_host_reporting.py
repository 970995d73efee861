"""What plugins say: documents that fit, warnings that name what matters."""

from __future__ import annotations

import json

from karbor.domain.resource import VOLUME, Resource
from karbor.plugins.host import reporting
from karbor.sdk.contract.op import MAX_DOCUMENT, FakeOp, Journal, Stage
from karbor.sdk.contract.vault import MemoryVault
from karbor.sdk.vault import MAX_LISTED, Skipped, Written


def written(skipped: list[Skipped], **counts: int) -> Written:
    return Written(tree="0", logical_bytes=1, read_bytes=1, added_bytes=1, skipped=tuple(skipped), skipped_count=counts)


def test_a_document_fits_whatever_was_skipped() -> None:
    long = "\u20ac" * 1300  # as bytes this is as long as a path may be
    figures = written([Skipped(long, "unreadable", long)] * MAX_LISTED, unreadable=5000)
    document = reporting.document("directory", figures, path="/srv")
    assert len(json.dumps(document, ensure_ascii=False).encode()) < MAX_DOCUMENT
    assert document["skipped_count"] == {"unreadable": 5000}
    assert document["skipped"][0] == [long, "unreadable", long]


def test_a_warning_names_a_few_and_counts_all(tmp_path) -> None:
    resource = Resource(type=VOLUME, id="1")
    journal = Journal()
    op = FakeOp(Stage(resource=resource, operation="protect", vault=MemoryVault(), scratch_root=tmp_path), journal)
    skipped = [Skipped("cache", "excluded"), *(Skipped(f"f{i}", "vanished") for i in range(9)), Skipped("s", "socket")]
    reporting.warn_of_skipped(op, written(skipped, excluded=1, vanished=9, socket=1), "/srv")
    assert journal.warnings == ["/srv: 1 socket, 9 vanished: f0, f1, f2, f3, f4 …"]
    reporting.warn_of_skipped(op, written([Skipped("cache", "excluded")], excluded=1), "/srv")
    assert len(journal.warnings) == 1
