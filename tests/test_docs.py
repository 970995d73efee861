"""Holds the documentation to the code: what is generated is current, nothing is undocumented, no link is broken, and
every command that a page shows is one that the programs take. The commands are run in tests/acceptance/test_docs_run.py.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import msgspec
import pytest
from tests.shell_blocks import blocks

from karbor import settings
from karbor.api.routes import ROUTES
from karbor.cli import client, manage
from karbor.cli.connection import add_options
from karbor.domain.checkpoint import MOVES
from karbor.domain.operation import HOOKS
from karbor.errors import KarborError
from karbor.plugins.host import declaration
from karbor.providers import load_providers
from karbor.sdk.loading import Loaded
from karbor.sdk.op import Op

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.words[:1] == ("sh",)]
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
PROGRAMS = {"karbor": client.VERBS, "karbor-manage": manage.VERBS}


def name(block) -> str:
    return f"{block.page}:{block.line}"


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


def test_the_generated_parts_are_current() -> None:
    assert GENERATOR.rendered(REFERENCE) == REFERENCE, "run .venv/bin/python docs/generate.py"


@pytest.mark.parametrize(
    "documented",
    [
        *(option.name for options in settings.groups().values() for option in options),
        *(kind.code for kind in GENERATOR.every_error(KarborError)),
        *HOOKS,
        *(word for word in vars(Op) if not word.startswith("_")),
        *(declared for group in GENERATOR.entry_points().values() for declared in group),
        *MOVES.keys() - {"wait_copying", "copying"},
    ],
)
def test_nothing_is_undocumented(documented: str) -> None:
    assert f"`{documented}`" in REFERENCE


def test_every_route_and_command_is_documented() -> None:
    for route in ROUTES:
        assert f"`{route.method} {route.template}`" in REFERENCE
    for program, verbs in PROGRAMS.items():
        for verb in verbs:
            assert f"`{program} {verb.name}" in REFERENCE


def test_every_field_of_a_provider_is_documented() -> None:
    source = (ROOT / "src/karbor/providers.py").read_text(encoding="utf-8")
    fields = set(re.findall(r"own(?:\.get\(|, )\"(\w+)\"", source))
    assert {"id", "bank", "plugin", "survives"} <= fields
    for field in fields:
        assert f"`{field}`" in REFERENCE, field


@pytest.mark.parametrize(
    "struct",
    [
        declaration.Application,
        declaration.Directory,
        declaration.DiskImage,
        declaration.Sqlite,
        declaration.Server,
        declaration.Command,
        declaration.Allowances,
    ],
)
def test_every_field_of_a_declaration_is_documented(struct: type) -> None:
    text = (DOCS / "reference/hosts.d.md").read_text(encoding="utf-8")
    for field in msgspec.structs.fields(struct):
        assert f"`{field.encode_name}`" in text, field.name


# --- links


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_broken(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(place), f"{target}: there is no such heading"


# --- commands


def commands_in(text: str) -> list[list[str]]:
    """The calls of our programs in a block, each as its words; here-documents are left out."""
    text = re.sub(r"<<'?END'?\n.*?^END$", "", text, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
    found = []
    for call in re.findall(r"(?:^|\$\(|; |&& )((?:karbor|karbor-manage) [^\n]*)", text, flags=re.MULTILINE):
        lexer = shlex.shlex(call.replace("$(", " ("), posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        words = []
        for word in lexer:
            if set(word) <= set(";&|()<>"):
                break
            words.append(word)
        found.append(words)
    return found


COMMANDS = [(name(block), words) for block in SHELL for words in commands_in(block.text)]


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{place}-{' '.join(words)}" for place, words in COMMANDS])
def test_every_command_is_one_that_the_program_takes(place: str, words: list[str]) -> None:
    verbs = {verb.name: verb for verb in PROGRAMS[words[0]]}
    known = next((verb for verb in sorted(verbs, key=len, reverse=True) if f" {verb} " in f" {' '.join(words)} "), None)
    assert known, f"{place}: there is no such command"
    parser = GENERATOR.parser_of(verbs[known])
    add_options(parser) if words[0] == "karbor" else parser.add_argument("--state")
    for options in (("-f",), ("-c",)):
        parser.add_argument(*options)
    parser.add_argument("--debug", action="store_true")
    rest = list(words[1:])
    for word in known.split():
        rest.remove(word)
    parser.parse_args(rest)


def test_pages_show_enough_commands() -> None:
    assert len(COMMANDS) > 40, "the pattern that finds commands finds too few"


# --- files that pages show


@pytest.mark.parametrize("block", [block for block in BLOCKS if "hosts.d" in block.words], ids=name)
def test_declarations_are_valid(block, tmp_path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(block.text)
    file.chmod(0o600)
    assert declaration.load_declarations(str(tmp_path))


@pytest.mark.parametrize("block", [block for block in BLOCKS if "settings" in block.words], ids=name)
def test_settings_are_valid(block, tmp_path) -> None:
    (tmp_path / "shown.conf").write_text(block.text)
    assert settings.load([tmp_path / "shown.conf"]).auth_strategy


def providers_in(folder: Path):
    """What the service makes of a folder of providers; their banks are not opened."""
    declared = GENERATOR.entry_points()
    banks = Loaded(plugins=dict.fromkeys(declared["karbor.banks"], lambda _: None), problems={})
    return load_providers(folder, Loaded(plugins=declared["karbor.protections"], problems={}), banks, {})


@pytest.mark.parametrize("block", [block for block in BLOCKS if "providers.d" in block.words], ids=name)
def test_providers_are_valid(block, tmp_path) -> None:
    (tmp_path / "shown.conf").write_text(block.text)
    found = providers_in(tmp_path)
    assert not found.problems
    assert [provider.problems for provider in found.all()] == [[]]


def test_examples_are_valid(tmp_path) -> None:
    found = providers_in(ROOT / "examples/providers.d")
    assert found.all()
    assert not found.problems
    shown = tmp_path / "shop.yaml"
    shown.write_text((ROOT / "examples/hosts.d/shop.yaml").read_text())
    shown.chmod(0o600)
    assert declaration.load_declarations(str(tmp_path))


def test_blocks_are_run_or_said_not_to_be() -> None:
    """A block that is not run stands where it cannot be: by its page and heading, so that a new one is a decision."""
    idle = {(block.page, block.heading) for block in SHELL if not {"run", "service"} & set(block.words)}
    assert idle == {
        ("README.md", "Karbor"),
        ("README.md", "Protect something of this host"),
        ("how-to.md", "Recover after the host is lost"),  # it needs another host
        ("how-to.md", "Run the service on several hosts"),  # it needs a cloud's Keystone
        ("how-to.md", "Write and prove a plugin"),  # tests/integration/test_vendor_plugin.py does
        ("recovery.md", "After: restore"),  # mounting needs FUSE
        ("recovery.md", "Banks in Swift and S3"),  # tests/cloud does
        ("tutorial.md", "Tutorial: protect, verify, lose, restore"),
    }
