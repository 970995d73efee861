"""`karbor plugin test` over a suite in the folder where the vendor stands."""

from __future__ import annotations

import pytest

SUITE = """
import unittest
from karbor.sdk.contract.bank import BankContract
class Suite:
    def test_one(self): pass
    def test_two(self): raise ValueError("not so")
    def test_three(self): raise unittest.SkipTest("no such feature")
class Good:
    def test_one(self): pass
class Empty:
    pass
"""


@pytest.fixture
def vendor(tmp_path, monkeypatch):
    (tmp_path / "vendor_suite.py").write_text(SUITE)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("vendor")
def test_each_test_is_a_row_and_a_failure_the_exit_code(karbor):
    result = karbor("plugin", "test", "vendor_suite:Suite", "-f", "json")
    assert {row["test"]: (row["result"], row["reason"]) for row in result.json()} == {
        "one": ("passed", ""),
        "two": ("failed", "ValueError: not so"),
        "three": ("skipped", "no such feature"),
    }
    assert (result.code, result.err) == (12, "error: 1 of 3 tests failed\n")
    assert "Traceback" in karbor("plugin", "test", "vendor_suite:Suite", "--traceback").err
    assert karbor("plugin", "test", "vendor_suite:Good").code == 0


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize("named", ["vendor_suite:Empty", "vendor_suite:None", "vendor_suite", "no_such_module:X", ":"])
def test_what_is_no_suite_is_refused(karbor, named):
    result = karbor("plugin", "test", named)
    assert result.code == 2
    assert "hint: name a class derived from a suite of karbor.sdk.contract" in result.err
