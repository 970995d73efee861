"""What `karbor-manage` does beside running daemons: database, keys and banks, through the service's own composition."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karbor.cli.naming import pick
from karbor.cli.server import server
from karbor.cli.verbs import Table, Verb
from karbor.errors import BankForeign, InvalidInput, KarborError, NotFound

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from karbor.cli.api import Item
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


def _upgrade(session: Session, args: Namespace) -> None:
    application(session, args).upgrade_database()
    session.terminal.say("the database is up to date")


def _version(session: Session, args: Namespace) -> Item:
    migrate = server("karbor.db.migrate")
    return {"database": migrate.current(application(session, args).database), "service": migrate.head()}


def _export(session: Session, args: Namespace) -> Iterator[Item]:
    app, rootkey = application(session, args), server("karbor.bank.rootkey")
    own = Path(app.settings.root_key_file)
    files: dict[Path, list[str]] = {own: []}
    for provider in app.providers.all():
        files.setdefault(Path(provider.root_key_file or own), []).append(provider.name)
    for file, names in files.items():
        yield {"file": str(file), "providers": names, "key": rootkey.to_paper(rootkey.read_key_file(file))}


def _vaults(session: Session, args: Namespace, app: Any) -> Any:
    """The repositories, by the key of `--key` where one is given and by the configured ones otherwise."""
    if args.key is None:
        return app.vaults
    rootkey = server("karbor.bank.rootkey")
    key = rootkey.from_paper(_typed(session, args.key))
    return server("karbor.protection.vaults").Vaults(lambda _: key, rootkey.derive, app.clock, app.random)


def _recover(session: Session, args: Namespace) -> Table:
    app, recovery = application(session, args), server("karbor.protection.recovery")
    app.upgrade_database()
    vaults = _vaults(session, args, app)
    rows = []
    for provider in app.providers.all():
        for project in repositories(provider):
            done = recovery.recover(app.catalogue, vaults.open(provider, project))
            for problem in done.unreadable:
                session.terminal.say(f"{provider.name}: {problem}")
            counted = {name: getattr(done, name) for name in ("checkpoints", "deleted", "plans", "present")}
            rows.append({"provider": provider.name, "project": project, **counted, "unreadable": len(done.unreadable)})
    lost = sum(row["unreadable"] for row in rows)
    failure = BankForeign(f"{lost} checkpoints could not be read") if lost else None
    columns = ("provider", "project", "checkpoints", "deleted", "plans", "present", "unreadable")
    return Table(columns, tuple(rows), failure)


def _check_key(session: Session, args: Namespace) -> Table:
    """Each repository is opened with the key from paper alone."""
    app = application(session, args)
    args.key = args.key or Path("-")
    opened = _vaults(session, args, app)
    rows, wrong = [], 0
    for provider in app.providers.all():
        for project in repositories(provider):
            try:
                opened.open(provider, project)
                answer = "opens"
            except BankForeign:
                answer, wrong = "another key", wrong + 1
            rows.append({"provider": provider.name, "project": project, "key": answer})
    failure = BankForeign(f"the key does not open {wrong} of {len(rows)} repositories") if wrong else None
    return Table(("provider", "project", "key"), tuple(rows), failure)


def _repository(session: Session, args: Namespace) -> Any:
    app = application(session, args)
    named = [{"id": provider.id, "name": provider.name} for provider in app.providers.all()]
    provider = app.providers.get(pick(args.provider, named, "provider")["id"])
    known = list(repositories(provider))
    if args.project is None and len(known) == 1:
        return app.vaults.open(provider, known[0])
    if args.project not in known:
        raise NotFound(
            f"provider {provider.name} has no repository of project {args.project}",
            hint=f"there are {', '.join(known) or 'none'}",
        )
    return app.vaults.open(provider, args.project)


def _add_key(session: Session, args: Namespace) -> Item:
    repository = _repository(session, args)
    passphrase = _typed(session, args.passphrase_file, "Passphrase: ")
    if not passphrase:
        raise InvalidInput("an empty passphrase opens nothing")
    key = repository.add_key(passphrase, owner=args.owner)
    return {"key": key, "repository": f"{repository.bank.location.rstrip('/')}/{repository.prefix.rstrip('/')}"}


def _keys(session: Session, args: Namespace) -> Iterator[Item]:
    for key in _repository(session, args).list_keys():
        yield {"id": key.id, "owner": key.owner, "created": key.created}


def _remove_key(session: Session, args: Namespace) -> None:
    repository = _repository(session, args)
    known = [{"id": key.id, "name": ""} for key in repository.list_keys()]
    ident = pick(args.key, known, "key")["id"]
    repository.remove_key(ident)
    session.terminal.say(f"key {ident} opens the repository no longer")


def _banks(session: Session, args: Namespace) -> Iterator[Item]:
    for provider in application(session, args).providers.all():
        row = {"provider": provider.name, "provider_id": provider.id}
        try:
            space = provider.bank.space()
            yield row | {
                "kind": provider.bank.kind,
                "location": provider.bank.location,
                "repositories": len(list(repositories(provider))),
                "free_bytes": space.free,
                "total_bytes": space.total,
            }
        except KarborError as error:  # one bank that does not answer must not hide the others
            yield row | {"problem": error.message}


def _bank(session: Session, args: Namespace) -> Table:
    app, checkpoints = application(session, args), server("karbor.bank.checkpoints")
    named = [{"id": provider.id, "name": provider.name} for provider in app.providers.all()]
    provider = app.providers.get(pick(args.provider, named, "provider")["id"])
    rows = []
    for project in repositories(provider):
        repository = app.vaults.open(provider, project)
        held = list(checkpoints.held(repository))
        objects = [found.size for found in provider.bank.list(repository.prefix)]
        rows.append(
            {
                "project": project,
                "checkpoints": sum(not each.deleted for each in held),
                "deleted": sum(each.deleted for each in held),
                "objects": len(objects),
                "stored_bytes": sum(objects),
                "path": f"{provider.bank.location.rstrip('/')}/{repository.prefix.rstrip('/')}",
            }
        )
    return Table(("project", "checkpoints", "deleted", "objects", "stored_bytes", "path"), tuple(rows))


def _typed(session: Session, file: Path | None, prompt: str = "Key: ") -> str:
    """A secret from a file, from standard input, or typed unseen; never from the command line."""
    if file is not None and str(file) != "-":
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(f"{file}: {error.strerror}") from error
    if session.terminal.can_ask:
        return getpass.getpass(prompt).strip()
    return sys.stdin.readline().strip()


def _configured(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        type=Path,
        action="append",
        help=f"configuration of the service where it has no --state; repeat for more; default: {CONFIG}",
    )


def _key(parser: ArgumentParser) -> None:
    parser.add_argument("--key", metavar="FILE", type=Path, help="file with the key as it was exported; - to type it")


def _provider(parser: ArgumentParser) -> None:
    parser.add_argument("provider", metavar="PROVIDER", help="id, name or beginning of the id")


def _project(parser: ArgumentParser) -> None:
    parser.add_argument("--project", metavar="ID", help="needed only where the bank holds several")


def _passphrase(parser: ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="else it is asked for")
    parser.add_argument("--owner", metavar="NAME", default="recovery", help="whose it is; default: recovery")


def _key_id(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="id or the beginning of it")


VERBS = (
    Verb(
        name="db upgrade",
        help="Bring the tables of the database to this version",
        run=_upgrade,
        arguments=(_configured,),
        shows="nothing",
    ),
    Verb(
        name="db version",
        help="Show the version of the database and the one that the service wants",
        run=_version,
        arguments=(_configured,),
    ),
    Verb(
        name="key export",
        help="Show the root keys as they are kept on paper",
        run=_export,
        arguments=(_configured,),
        shows="list",
        columns=("file", "providers", "key"),
    ),
    Verb(
        name="key check",
        help="Prove that a key from paper opens every repository",
        run=_check_key,
        arguments=(_configured, _key),
    ),
    Verb(
        name="recover",
        help="Fill an empty database with the checkpoints and plans that the banks hold",
        run=_recover,
        arguments=(_configured, _key),
    ),
    Verb(
        name="key list",
        help="List what opens a repository",
        run=_keys,
        arguments=(_configured, _provider, _project),
        shows="list",
        columns=("id", "owner", "created"),
    ),
    Verb(
        name="key add",
        help="Let a passphrase open a repository, for plain restic too",
        run=_add_key,
        arguments=(_configured, _provider, _project, _passphrase),
    ),
    Verb(
        name="key remove",
        help="Let a passphrase open a repository no longer",
        run=_remove_key,
        arguments=(_configured, _provider, _project, _key_id),
        shows="nothing",
    ),
    Verb(
        name="bank list",
        help="List the banks and their room",
        run=_banks,
        arguments=(_configured,),
        shows="list",
        columns=(
            "provider",
            "provider_id",
            "kind",
            "location",
            "repositories",
            "free_bytes",
            "total_bytes",
            "problem",
        ),
    ),
    Verb(
        name="bank show",
        help="Show the repositories in a provider's bank",
        run=_bank,
        arguments=(_configured, _provider),
    ),
)
