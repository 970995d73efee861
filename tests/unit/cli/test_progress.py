"""Amounts, rates and time left in words."""

from __future__ import annotations

import pytest

from karbor.cli.progress import Rate, describe, duration, fraction, remaining, size
from karbor.wire.answers import Progress


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (150 * 1024, "150 KiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**6, "5120 PiB"),
    ],
)
def test_sizes_are_in_binary_units(amount, text):
    assert size(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3660, "1 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations_show_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_rate_needs_two_samples_apart():
    rate = Rate()
    assert rate.per_second == 0
    rate.add(10, 0)
    assert rate.per_second == 0
    rate.add(10, 5)
    assert rate.per_second == 0
    rate.add(12, 200)
    assert rate.per_second == 100


def test_a_rate_forgets_what_is_older_than_its_window():
    rate = Rate(window=10)
    for second in range(31):
        rate.add(second, 0 if second < 20 else (second - 20) * 100)
    assert rate.per_second == 100


def test_a_total_that_falls_starts_the_rate_again():
    rate = Rate()
    rate.add(0, 0)
    rate.add(1, 1000)
    rate.add(2, 100)
    assert rate.per_second == 0
    rate.add(3, 150)
    assert rate.per_second == 50


def test_what_is_done_is_a_part_of_bytes_else_of_steps_else_unknown():
    assert fraction(Progress(done_bytes=1, total_bytes=4, done_steps=9, total_steps=9)) == 0.25
    assert fraction(Progress(done_bytes=8, total_bytes=4)) == 1
    assert fraction(Progress(done_steps=1, total_steps=2)) == 0.5
    assert fraction(Progress(done_bytes=7)) is None


def test_time_left_is_said_only_where_it_is_known():
    assert remaining(Progress(done_bytes=1000, total_bytes=3000), 100) == 20
    assert remaining(Progress(done_bytes=1000, total_bytes=3000), 0) is None
    assert remaining(Progress(done_bytes=1000), 100) is None
    assert remaining(Progress(done_bytes=3001, total_bytes=3000), 1) == 0


def test_a_line_says_amount_rate_time_and_thing():
    progress = Progress(done_bytes=1024**2, total_bytes=3 * 1024**2, current="disk")
    assert describe(progress, 1024**2) == "1.0 MiB of 3.0 MiB, 1.0 MiB/s, 2 s left, disk"
    assert describe(Progress(done_steps=2, total_steps=5), 0) == "2 of 5 steps"
    assert describe(Progress(done_bytes=10, total_steps=5), 0) == "10 B"
    assert describe(Progress(), 0) == "0 B"
