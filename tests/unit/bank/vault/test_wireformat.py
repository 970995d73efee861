"""Names, times, modes and JSON as a Go program writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karbor.bank.vault.wireformat import go_json, go_mode, go_time, id_of, parse_time, posix_mode, quote, unquote

FIRST, LAST = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1


@given(st.binary())
def test_any_name_survives_quoting(raw):
    quoted = quote(raw)
    assert unquote(quoted) == raw
    assert quoted.isprintable()


@given(st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_text_survives_quoting(raw):
    assert unquote(quote(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [  # what strconv.Quote gives for them
        (b"plain", "plain"),
        (b"a b", "a b"),
        (b'"', '\\"'),
        (b"\\", "\\\\"),
        (b"\x01\x7f\n\t\a", "\\x01\\x7f\\n\\t\\a"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ("ü€".encode(), "ü€"),
        ("\u200b".encode(), "\\u200b"),
        ("\U000e0001".encode(), "\\U000e0001"),
        ("\ufffd".encode(), "\ufffd"),
    ],
)
def test_names_are_quoted_as_go_does(raw, quoted):
    assert quote(raw) == quoted


@pytest.mark.parametrize(("text", "raw"), [("\\x41\\101\\'", b"AA'"), ("\\u00e4\\U0001f600", "ä😀".encode())])
def test_every_escape_of_go_is_read(text, raw):
    assert unquote(text) == raw


@pytest.mark.parametrize("text", ["\\", "\\q", "\\x4", "\\u12", "\\ud800", "\\U00110000", "\\777", "\\U99999999"])
def test_unknown_escapes_are_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        unquote(text)


@given(st.integers(FIRST, LAST))
def test_every_time_survives(ns):
    assert parse_time(go_time(ns)) == ns


def test_times_outside_the_calendar_are_moved_into_it():
    assert go_time(-(10**30)) == "0001-01-01T00:00:00Z"
    assert go_time(10**30).startswith("9999-12-31T23:59:59.9")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("1969-12-31T18:30:00-05:30", 0),
        ("2024-02-29T00:00:00.120Z", 1_709_164_800_120_000_000),
    ],
)
def test_times_of_any_zone_are_read(text, ns):
    assert parse_time(text) == ns


@pytest.mark.parametrize(
    "text", ["", "now", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01 00:00:00Z", "٢024-01-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)


@given(st.sampled_from(["file", "dir", "symlink", "dev", "chardev", "fifo", "socket"]), st.integers(0, 0o7777))
def test_modes_survive(kind, permissions):
    assert posix_mode(go_mode(kind, permissions)) == permissions


def test_modes_are_go_s():
    assert go_mode("dir", 0o1755) == 1 << 31 | 1 << 20 | 0o755
    assert go_mode("chardev", 0o4600) == 1 << 26 | 1 << 21 | 1 << 23 | 0o600


def test_json_escapes_what_go_escapes():
    assert go_json({"a": "<&>\u2028\u2029ü"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028\\u2029ü"}'.encode()


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError):
        id_of(text)
