"""`karbor-manage key`: root keys on paper, and the passphrases that open a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from karbor.cli.composition import (
    application,
    configured,
    find_provider,
    key_file,
    place_of,
    project,
    provider,
    repositories,
    typed,
    vaults_by,
)
from karbor.cli.naming import pick
from karbor.cli.server import server
from karbor.cli.verbs import Table, Verb
from karbor.errors import BankForeign, Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from karbor.cli.api import Item
    from karbor.cli.session import Session


def _export(session: Session, args: Namespace) -> Iterator[Item]:
    app, rootkey = application(session, args), server("karbor.bank.rootkey")
    own = Path(app.settings.root_key_file)
    files: dict[Path, list[str]] = {own: []}
    for each in app.providers.all():
        files.setdefault(Path(each.root_key_file or own), []).append(each.name)
    for file, names in files.items():
        yield {"file": str(file), "providers": names, "key": rootkey.to_paper(rootkey.read_key_file(file))}


def _make(session: Session, args: Namespace) -> None:
    """Every host of the service needs the same key: make it once, copy it, export it for paper."""
    if args.file.exists():
        raise Conflict(f"{args.file} exists", hint="a second key would open nothing of what the first one sealed")
    server("karbor.bank.rootkey").make_key_file(args.file, server("karbor.system").SystemRandomness().token)
    session.terminal.say(f"{args.file} holds a new root key: print it with `karbor-manage key export`")


def _file(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="where; it must not exist")


def _check(session: Session, args: Namespace) -> Table:
    """Each repository is opened with the key from paper alone."""
    app = application(session, args)
    vaults = vaults_by(session, app, args.key or Path("-"))
    rows, wrong = [], 0
    for each in app.providers.all():
        for project_id in repositories(each):
            try:
                vaults.open(each, project_id)
                answer = "opens"
            except BankForeign:
                answer, wrong = "another key", wrong + 1
            rows.append({"provider": each.name, "project": project_id, "key": answer})
    failure = BankForeign(f"the key does not open {wrong} of {len(rows)} repositories") if wrong else None
    return Table(("provider", "project", "key"), tuple(rows), failure)


def _repository(session: Session, args: Namespace) -> Any:
    app = application(session, args)
    found = find_provider(app, args.provider)
    known = list(repositories(found))
    if args.project is None and len(known) == 1:
        return app.vaults.open(found, known[0])
    if args.project not in known:
        raise NotFound(
            f"provider {found.name} has no repository of project {args.project}",
            hint=f"there are {', '.join(known) or 'none'}",
        )
    return app.vaults.open(found, args.project)


def _add(session: Session, args: Namespace) -> Item:
    repository = _repository(session, args)
    passphrase = typed(session, args.passphrase_file, "Passphrase: ")
    if not passphrase:
        raise InvalidInput("an empty passphrase opens nothing")
    return {"key": repository.add_key(passphrase, owner=args.owner), "repository": place_of(repository)}


def _list(session: Session, args: Namespace) -> Iterator[Item]:
    for key in _repository(session, args).list_keys():
        yield {"id": key.id, "owner": key.owner, "created": key.created}


def _remove(session: Session, args: Namespace) -> None:
    repository = _repository(session, args)
    known = [{"id": key.id, "name": ""} for key in repository.list_keys()]
    ident = pick(args.key, known, "key")["id"]
    repository.remove_key(ident)
    session.terminal.say(f"key {ident} opens the repository no longer")


def _passphrase(parser: ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="else it is asked for")
    parser.add_argument("--owner", metavar="NAME", default="recovery", help="whose it is; default: recovery")


def _key(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="id or the beginning of it")


VERBS = (
    Verb(
        name="key make",
        help="Make the root key of a new service",
        run=_make,
        arguments=(_file,),
        shows="nothing",
    ),
    Verb(
        name="key export",
        help="Show the root keys as they are kept on paper",
        run=_export,
        arguments=(configured,),
        shows="list",
        columns=("file", "providers", "key"),
    ),
    Verb(
        name="key check",
        help="Prove that a key from paper opens every repository",
        run=_check,
        arguments=(configured, key_file),
    ),
    Verb(
        name="key list",
        help="List what opens a repository",
        run=_list,
        arguments=(configured, provider, project),
        shows="list",
        columns=("id", "owner", "created"),
    ),
    Verb(
        name="key add",
        help="Let a passphrase open a repository, for plain restic too",
        run=_add,
        arguments=(configured, provider, project, _passphrase),
    ),
    Verb(
        name="key remove",
        help="Let a passphrase open a repository no longer",
        run=_remove,
        arguments=(configured, provider, project, _key),
        shows="nothing",
    ),
)
