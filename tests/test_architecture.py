"""Holds the architecture: who may import whom, where libraries are confined, how large things may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "karbor"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "versions" not in path.parts)

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}

# Importing goes downward only: a package may import those on lines below its own, itself, and nothing else of ours.
LAYERS = [
    {"app", "cli", "daemons", "standalone"},
    {"api"},
    {"schedule"},
    {"protection"},
    {"flow", "bank", "providers"},
    {"sdk"},
    {"domain"},
    {"errors", "wire"},
]
# Adapters are imported by `app` only and never import one another; they see these of ours.
ADAPTERS = {
    "db": {"flow", "protection", "sdk", "domain", "errors"},
    "bank.stores": {"sdk", "domain", "errors"},
    "clouds": {"sdk", "domain", "errors"},
    "plugins": {"sdk", "domain", "errors"},
    "system": set(),
    "settings": {"errors"},
}
COMMAND_LINE = {"wire", "errors"}
# What stands in the client must not need the services: these of its modules may.
COMMAND_LINE_SERVER = {"cli.manage", "cli.hosts", "cli.plugins", "cli.serve"}

# Where each third-party library may be imported.
CONFINED = {
    "alembic": {"db"},
    "boto3": {"bank.stores"},
    "botocore": {"bank.stores"},
    "cliff": {"cli"},
    "cryptography": {"bank.vault.crypto", "bank.rootkey", "flow.sealing"},
    "falcon": {"api", "app"},
    "granian": {"app", "standalone", "cli"},
    "keystoneauth1": {"clouds", "cli", "api.keystone", "bank.stores.swift"},
    "keystonemiddleware": {"api.keystone"},
    "msgspec": {""},
    "numpy": {"bank.vault"},
    "openstack": {"clouds"},
    "oslo_config": {"settings", "providers", "api", "app"},
    "oslo_context": {"api"},
    "oslo_log": {"app", "standalone"},
    "oslo_policy": {"api.policy"},
    "psycopg": {"db"},
    "pyfastcdc": {"bank.vault"},
    "pymysql": {"db"},
    "pytest": {"sdk.contract"},
    "requests": {"cli", "clouds", "bank.stores.swift"},
    "rich": {"cli"},
    "sqlalchemy": {"db"},
    "stevedore": {"sdk.loading"},
    "waitress": {"daemons"},
    "yaml": {"plugins.host"},
    "zstandard": {"bank.vault"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def within(module: str, package: str) -> bool:
    return package in ("", module) or module.startswith(package + ".")


def imports_of(path: Path) -> set[str]:
    """Dotted names of every import, those for the type checker and those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def allowed(module: str) -> set[str]:
    """The packages of ours that a module may import."""
    for adapter, seen in ADAPTERS.items():
        if within(module, adapter):
            return {*seen, adapter}
    top = module.split(".", maxsplit=1)[0]
    if top == "cli" and module not in COMMAND_LINE_SERVER:
        return {*COMMAND_LINE, "cli"}
    if module in {"app", "daemons", "standalone"} or module in COMMAND_LINE_SERVER:
        return {""}
    for i, layer in enumerate(LAYERS):
        if top in layer:
            return {top, *(name for lower in LAYERS[i + 1 :] for name in lower)}
    return {"errors"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward(path: Path) -> None:
    module = name_of(path)
    for imported in imports_of(path):
        if not imported.startswith("karbor."):
            continue
        target = imported.removeprefix("karbor.")
        if target.startswith("__version__"):
            continue
        known = allowed(module)
        assert any(within(target, package) for package in known), f"{module} imports {target}; allowed: {sorted(known)}"
        for adapter in ADAPTERS:
            if within(target, adapter) and not within(module, adapter):
                assert module.split(".")[0] in {"app", "daemons", "standalone", "cli"}, (
                    f"{module} imports the adapter {target}"
                )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_are_confined(path: Path) -> None:
    module = name_of(path)
    for imported in imports_of(path):
        top = imported.split(".")[0]
        if top == "karbor" or top in sys.stdlib_module_names:
            continue
        assert top in CONFINED, f"{module} imports {top}, which no package may"
        assert any(within(module, place) for place in CONFINED[top]), f"{module} may not import {top}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sizes_and_names(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= MAX_MODULE_LINES, f"{name_of(path)} has {lines} lines"
    assert not FORBIDDEN_NAMES & set(path.relative_to(SOURCE).with_suffix("").parts), path
    tree = ast.parse(text)
    assert not tree.body or ast.get_docstring(tree), f"{name_of(path)} does not say what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name_of(path)}.{node.name} has {length} lines"


def test_nothing_names_the_workplace() -> None:
    root = SOURCE.parents[1]
    tracked = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    needle = ".." + "/shared"
    for name in tracked:
        path = root / name
        if path.is_file() and path.stat().st_size < 1 << 20:
            assert needle not in path.read_text(errors="replace"), f"{name} needs files that a clone does not have"


def test_eventlet_is_never_imported() -> None:
    names = [f"karbor.{name_of(path)}" for path in MODULES if name_of(path) and not name_of(path).endswith("__main__")]
    program = (
        "import importlib, sys\n"
        f"for name in {[name for name in names if 'migrations.env' not in name]!r}:\n"
        "    importlib.import_module(name)\n"
        "assert 'eventlet' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
