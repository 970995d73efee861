"""What `karbor-manage` does with banks and keys, over a bank in memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.unit.cli.conftest import Typed

from karbor.cli.banks import part
from karbor.cli.composition import repositories
from karbor.cli.manage import VERBS, main, program
from karbor.cli.terminal import Terminal
from karbor.sdk.bank import ObjectStat


class Bank:
    """A bank that counts how many objects were shown."""

    def __init__(self, *keys):
        self.keys, self.shown = sorted(keys), 0

    def list(self, prefix, *, after=""):
        for key in self.keys:
            if key.startswith(prefix) and key > after:
                self.shown += 1
                yield ObjectStat(key, 1)


def test_repositories_are_found_without_reading_the_whole_bank():
    packs = [f"prov/p1-g1/data/{i:02x}/x" for i in range(200)]
    bank = Bank("other/p0-g1/config", "prov/p1-g1/config", *packs, "prov/p1-g10/config", "prov/p-2-g1/config")
    assert list(repositories(SimpleNamespace(id="prov", bank=bank))) == ["p-2", "p1", "p1"]
    assert bank.shown == 3


def test_an_empty_bank_has_none():
    assert list(repositories(SimpleNamespace(id="prov", bank=Bank()))) == []


def run(*argv):
    out, err = Typed(), Typed()
    app = program(Terminal(Typed(), out, err))
    app.configure_logging = lambda: None
    return app.run(list(argv)), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_command_explains_itself(verb):
    code, out, _ = run(*verb.name.split(), "--help")
    assert code == 0
    assert verb.help in " ".join(out.split())


def test_without_a_word_it_shows_what_there_is(capsys):
    assert main([]) == 0
    assert "key export" in capsys.readouterr().out


def test_a_folder_that_is_none_is_said_to_be_so(tmp_path):
    code, _, err = run("--state", str(tmp_path), "bank", "list")
    assert (code, err) == (4, f"error: {tmp_path} is not the folder of a standalone service\n")


@pytest.mark.parametrize(("text", "parts"), [("1/1", (1, 1)), ("3/30", (3, 30))])
def test_a_part_of_the_data(text, parts):
    assert part(text) == parts


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "a/b", "-1/2"])
def test_what_is_no_part(text):
    with pytest.raises(ValueError):
        part(text)
