"""Writes the parts of reference.md that follow from the code: between a marker `begin` and its `end`.

Run it from anywhere after a change of a setting, an error, a command, a route or a plugin; tests/test_docs.py compares.
"""
# ruff: noqa: INP001

from __future__ import annotations

import importlib
import re
import tomllib
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karbor import settings
from karbor.api import policy
from karbor.api.routes import ROUTES
from karbor.cli import client, manage
from karbor.errors import KarborError
from karbor.sdk.schema import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from karbor.cli.verbs import Verb

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference.md"
_PART = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(value: object) -> str:
    return f"`{value}`" if str(value) else ""


def settings_part() -> str:
    """Every option of the configuration, by section."""
    parts = []
    for group, options in settings.groups().items():
        rows = [
            (_code(option.name), _shown_default(option), f"{option.help}{_choices(option)}{_secret(option)}")
            for option in options
        ]
        parts.append(f"**`[{group or 'DEFAULT'}]`**\n\n" + table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


def _shown_default(option: Any) -> str:
    value = option.default if option.sample_default is None else option.sample_default
    return _code("" if value is None else value)


def _choices(option: Any) -> str:
    choices = getattr(option.type, "choices", None)
    return f" One of: {', '.join(_code(choice) for choice in choices)}." if choices else ""


def _secret(option: Any) -> str:
    return " Secret." if option.secret else ""


def errors_part() -> str:
    """The tree of errors."""
    rows = [
        (_code(kind.code), kind.status, kind.exit_code, "yes" if kind.retryable else "no", _first(kind))
        for kind in every_error(KarborError)
    ]
    return table(("code", "HTTP", "exit", "retried", "meaning"), rows)


def every_error(kind: type[KarborError]) -> Iterator[type[KarborError]]:
    """The class and all of `karbor.errors` below it, in the order of their exit codes."""
    yield kind
    children = [child for child in kind.__subclasses__() if child.__module__ == kind.__module__]
    below = [found for child in children for found in every_error(child)]
    yield from sorted(below, key=lambda each: each.exit_code) if kind is KarborError else below


def _first(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n\n")[0]


def commands_part() -> str:
    """Every command, and every option once."""
    parts = []
    for program, verbs in (("karbor", client.VERBS), ("karbor-manage", manage.VERBS)):
        rows = [(_code(f"{program} {usage(verb)}"), verb.help) for verb in sorted(verbs, key=lambda verb: verb.name)]
        parts.append(table(("command", "what it does"), rows))
    options: dict[tuple[str, str], list[str]] = {}
    for verb in (*client.VERBS, *manage.VERBS):
        for action in parser_of(verb)._actions:  # noqa: SLF001 - argparse has no other way
            if action.help != SUPPRESS:
                name = ", ".join(action.option_strings) or str(action.metavar)
                options.setdefault((name, action.help or ""), []).append(verb.name)
    rows = [
        (_code(name), text, ", ".join(dict.fromkeys(verbs)) if len(set(verbs)) <= 4 else "several")
        for (name, text), verbs in sorted(options.items(), key=lambda item: item[0][0].lstrip("-").lower())
    ]
    return "\n".join(parts) + "\n" + table(("argument", "meaning", "of"), rows)


def parser_of(verb: Verb) -> ArgumentParser:
    """The parser of a command's own arguments."""
    parser = ArgumentParser(prog=verb.name, add_help=False)
    for declare in verb.arguments:
        declare(parser)
    return parser


def usage(verb: Verb) -> str:
    """A command with its arguments in one line."""
    return " ".join(parser_of(verb).format_usage().removeprefix("usage: ").split())


def routes_part() -> str:
    """The route table, and the policy rules that it names."""
    rows = [
        (_code(f"{route.method} {route.template}"), route.summary, _code(route.rule) or "anybody", route.since)
        for route in ROUTES
    ]
    rules = [
        (_code(rule.name), _code(rule.check_str), rule.description)
        for rule in sorted(policy.list_rules(), key=lambda rule: (":" in rule.name, rule.name))
    ]
    return (
        table(("route", "what it does", "rule", "since"), rows) + "\n" + table(("rule", "default", "allows to"), rules)
    )


def plugins_part() -> str:
    """The plugins of the entry points, with the options of a plan's or a request's parameters."""
    groups = entry_points()
    rows, options = [], []
    for name, plugin in groups["karbor.protections"].items():
        able = ", ".join(word for word in ("protect", "restore", "verify", "delete") if word in plugin.operations)
        rows.append((_code(name), ", ".join(map(_code, plugin.types)), able or "none: refused by name"))
        options += list(_options(name, plugin))
    protectables = [
        (_code(name), ", ".join(map(_code, kind.parents)) or "nothing", _first(kind))
        for name, kind in groups["karbor.protectables"].items()
    ]
    return "\n".join(
        (
            table(("resource type", "may belong to", "what is listed"), protectables),
            table(("protection", "of", "can"), rows),
            table(("protection", "of", "option", "default", "meaning"), options),
        )
    )


def _options(name: str, plugin: Any) -> Iterator[Sequence[str]]:
    for operation in ("protect", "restore", "verify"):
        schema = json_schema(getattr(plugin, f"{operation}_options"), operation)
        for option, field in schema["properties"].items():
            default = field.get("default")
            allowed = f" One of: {', '.join(map(_code, field['enum']))}." if "enum" in field else ""
            text = f"{field.get('description', '')}{allowed}"
            yield _code(name), operation, _code(option), _code("" if default is None else default), text


def entry_points() -> dict[str, dict[str, Any]]:
    """What pyproject.toml declares, imported; the banks by name alone."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return {
        group: {
            name: None if group == "karbor.banks" else _imported(target) for name, target in sorted(members.items())
        }
        for group, members in declared.items()
    }


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def rendered(text: str) -> str:
    """The page with its generated parts as the code has them now."""
    return _PART.sub(lambda found: f"{found[1]}\n{globals()[f'{found[2]}_part']()}\n{found[3]}", text)


if __name__ == "__main__":
    REFERENCE.write_text(rendered(REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")
