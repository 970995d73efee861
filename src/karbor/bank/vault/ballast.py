"""Ballast: an object of no use but its size, one per bank, so that prune has room to begin when a bank is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.errors import BankFull, ObjectMissing

if TYPE_CHECKING:
    from karbor.sdk.bank import Bank

KEY = "karbor-ballast"
SIZE = 4 << 20


def refill(bank: Bank) -> None:
    """Take ballast on, unless it is there or there is no room."""
    try:
        bank.stat(KEY)
    except ObjectMissing:
        try:
            bank.put(KEY, [bytes(SIZE)])
        except BankFull:
            return


def throw_off(bank: Bank) -> None:
    """Make room."""
    bank.delete(KEY)
