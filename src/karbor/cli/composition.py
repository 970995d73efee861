"""The service's own composition as `karbor-manage` uses it: configuration, providers, repositories, secrets."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karbor.cli.naming import pick
from karbor.cli.server import server
from karbor.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from karbor.cli.session import Session

CONFIG = Path("/etc/karbor/karbor.conf")
_AFTER_FOLDER = "0"
"""The byte after the slash: what follows a folder in the bank's order."""


def application(session: Session, args: Namespace) -> Any:
    """The service's composition (`karbor.app.Application`), by `--config-file`, `--state`, or the usual file."""
    make = server("karbor.app").application
    if args.config_file or session.state is None:
        return make(args.config_file or [CONFIG])
    files = server("karbor.standalone").config_files(session.state)
    if not files:
        raise NotFound(f"{session.state} is not the folder of a standalone service")
    return make(files)


def find_provider(app: Any, selector: str) -> Any:
    """A provider by its id, unique name or the beginning of its id."""
    known = [{"id": provider.id, "name": provider.name} for provider in app.providers.all()]
    return app.providers.get(pick(selector, known, "provider")["id"])


def repositories(provider: Any) -> Iterator[str]:
    """The ids of the projects that have a repository in the provider's bank, in order.

    One listing per repository is begun and left: a bank may hold millions of objects.
    """
    prefix = f"{provider.id}/"
    after = ""
    while (found := next(iter(provider.bank.list(prefix, after=after)), None)) is not None:
        folder = found.key.split("/")[1]
        yield folder.rpartition("-g")[0]
        after = f"{prefix}{folder}{_AFTER_FOLDER}"


def place_of(repository: Any) -> str:
    """Where plain restic finds a repository."""
    if "readers" in repository.bank.features:
        return str(repository.bank.repository_location(repository.prefix))
    return f"{repository.bank.location.rstrip('/')}/{repository.prefix.rstrip('/')}"


def vaults_by(session: Session, app: Any, key_file: Path | None) -> Any:
    """The repositories, opened by the root key in a file where one is given, else by the configured ones."""
    if key_file is None:
        return app.vaults
    rootkey = server("karbor.bank.rootkey")
    key = rootkey.from_paper(typed(session, key_file, "Key: "))
    return server("karbor.protection.vaults").Vaults(lambda _: key, rootkey.derive, app.clock, app.random)


def typed(session: Session, file: Path | None, prompt: str) -> str:
    """A secret from a file, from standard input, or typed unseen; never from the command line."""
    if file is not None and str(file) != "-":
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(f"{file}: {error.strerror}") from error
    if session.terminal.can_ask:
        return getpass.getpass(prompt).strip()
    return sys.stdin.readline().strip()


def configured(parser: ArgumentParser) -> None:
    """Which service."""
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        type=Path,
        action="append",
        help=f"configuration of the service where it has no --state; repeat for more; default: {CONFIG}",
    )


def key_file(parser: ArgumentParser) -> None:
    """A root key from paper."""
    parser.add_argument("--key", metavar="FILE", type=Path, help="file with the key as it was exported; - to type it")


def provider(parser: ArgumentParser) -> None:
    """Which provider."""
    parser.add_argument("provider", metavar="PROVIDER", help="id, name or beginning of the id")


def project(parser: ArgumentParser) -> None:
    """Which repository of a provider."""
    parser.add_argument("--project", metavar="ID", help="needed only where the bank holds several")
