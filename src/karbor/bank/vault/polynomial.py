"""The irreducible polynomial that restic's chunker needs in a repository's configuration. We cut chunks otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DEGREE = 53


def irreducible_polynomial(random: Callable[[int], bytes]) -> int:
    """A random irreducible polynomial of degree 53 over GF(2), one bit per coefficient."""
    while True:
        candidate = int.from_bytes(random(7)) & (1 << _DEGREE) - 1 | 1 << _DEGREE | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Ben-Or's test: no factor of degree i divides x^(2^i) - x."""
    power = 2
    for _ in range((polynomial.bit_length() - 1) // 2):
        power = _square_mod(power, polynomial)
        a, b = polynomial, power ^ 2
        while b:
            a, b = b, _mod(a, b)
        if a != 1:
            return False
    return True


def _mod(a: int, m: int) -> int:
    while a.bit_length() >= m.bit_length():
        a ^= m << (a.bit_length() - m.bit_length())
    return a


def _square_mod(a: int, m: int) -> int:
    """Squaring over GF(2) puts a zero between the bits."""
    return _mod(int(f"{a:b}", 4), m)
