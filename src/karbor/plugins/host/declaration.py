"""What may be protected on this host: one YAML file per application in `hosts.d`, written by the administrator.

A declaration is the only source of paths, commands, database targets and credentials; nothing that a tenant sends
adds to it. So files and folders that somebody else could change are refused.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import yaml

from karbor.domain.resource import LAYERS
from karbor.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_BYTES = 1 << 20
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

Name = Annotated[str, msgspec.Meta(pattern=_NAME)]
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"^/")]
Layer = Literal["", "web", "application", "database"]
DatabaseName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_$-]{0,62}$")]
Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]*$")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
OnChange = Literal["list", "fail"]


class Directory(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="directory"
):
    """A directory with everything below it."""

    path: AbsolutePath
    layer: Layer = ""
    excludes: tuple[str, ...] = ()
    """Patterns as in .gitignore, without negation."""
    one_file_system: bool = True
    skip_caches: bool = True
    on_change: OnChange = "list"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path


class DiskImage(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="disk image"
):
    """A regular file that holds a disk, or a block device."""

    path: AbsolutePath
    layer: Layer = ""
    on_change: OnChange = "list"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path


class Sqlite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sqlite"):
    """A SQLite database file."""

    path: AbsolutePath
    layer: Layer = "database"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path


class Server(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="database server"
):
    """One database of a PostgreSQL or MariaDB server."""

    engine: Literal["postgresql", "mariadb"]
    database: DatabaseName
    label: Name | None = None
    """Tells databases of the same name on several servers apart."""
    layer: Layer = "database"
    host: Word = ""
    """A name or address, or the folder (PostgreSQL) or path (MariaDB) of a Unix socket; empty: the default socket."""
    port: Port = 0
    user: Word = ""
    password: str = ""
    restore_user: Word = ""
    """The ordinary role that restores; `user` where it is empty."""
    restore_password: str = ""
    restore_in_place: bool = False
    """Whether a restore may go into the database itself instead of a new one."""
    privileged_restore: bool = False
    """Whether a role with more than ordinary rights may run a dump: a dump is code."""
    silence: Seconds = 600
    """How long a dump may write nothing before it is ended."""
    restore_silence: Seconds = 14400
    """How long a restore may take nothing in: one statement, as the building of an index, may take that long."""

    def __repr__(self) -> str:
        return f"Server({self.name})"  # without its passwords

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.engine}:{self.label or self.database}"


Database = Sqlite | Server
Member = Directory | DiskImage | Sqlite | Server


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program to run before or after a protect; no shell reads it. It must bear being run again after a crash."""

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    layer: Layer = ""
    deadline: Seconds = 60


class Allowances(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the administrator lets a restore carry over beyond what is safe for any tree."""

    owners: bool = False
    set_id_bits: bool = False
    devices: bool = False
    security_attributes: bool = False


class Application(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One declared application. `layers`, where given, says which layers its members and commands may name."""

    name: Name
    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1)]
    layers: tuple[Literal["web", "application", "database"], ...] = LAYERS  # type: ignore[assignment]
    before: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()
    restore_roots: tuple[AbsolutePath, ...] = ()
    options: Allowances = Allowances()


def load_declarations(directory: str) -> list[Application]:
    """Every application declared in ``directory/*.yaml``, by name; none where the directory does not exist.

    Raises `InvalidInput` naming file and field where one is wrong or could have been written by somebody else.
    """
    folder = Path(directory)
    if not folder.exists():
        return []
    check_trusted(folder)
    found: dict[str, Application] = {}
    for path in sorted(folder.glob("*.yaml")):
        application = _load(path)
        if application.name in found:
            raise InvalidInput(f"{path}: name: {application.name} is declared twice", field="name")
        found[application.name] = application
    return [found[name] for name in sorted(found)]


def write_declaration(
    directory: str | Path, name: str, paths: Iterable[str | Path], *, restore_roots: Iterable[str | Path] = ()
) -> Path:
    """Declare an application of these directories, images and SQLite files; returns the file written (0640).

    `restore_roots` are folders that restores may write to besides the members' own paths.
    Raises `InvalidInput` where a path does not exist or is of no kind, `Conflict` where the name is taken.
    """
    members = [_recognised(path) for path in paths]
    document: dict[str, Any] = {"name": name, "members": members}
    roots = [os.path.realpath(root) for root in restore_roots]
    if roots:
        document["restore_roots"] = roots
    target = Path(directory) / f"{name}.yaml"
    _checked(document, target)
    Path(directory).mkdir(mode=0o755, parents=True, exist_ok=True)
    check_trusted(Path(directory))
    if name in {application.name for application in load_declarations(str(directory))}:
        raise Conflict(f"an application {name} is already declared in {directory}")
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except FileExistsError as error:
        raise Conflict(f"{target} exists") from error
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return target


def check_trusted(path: Path) -> None:
    """Raise `InvalidInput` naming the first of `path` and its parents that somebody else could change.

    A sticky folder (/tmp) passes as a parent: in it nobody can replace what belongs to another.
    """
    places = {*_chain(path.absolute()), *_chain(Path(os.path.realpath(path)))}
    for place in sorted(places):
        status = place.stat()
        sticky = place != path and bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid not in _owners():
            raise InvalidInput(f"{place} belongs to another user (uid {status.st_uid})", hint="make it root's")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            raise InvalidInput(f"{place} is writable by others", hint=f"chmod go-w {place}")


def _owners() -> tuple[int, int]:
    return (0, os.geteuid())


def _chain(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _load(path: Path) -> Application:
    """Read one file by a descriptor, so that what was checked is what is read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"{path}: not a regular file")
        if status.st_uid not in _owners() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidInput(f"{path}: writable by others", hint=f"chown root {path}; chmod go-w {path}")
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise InvalidInput(f"{path}: larger than {_MAX_BYTES} bytes")
    try:
        document = yaml.load(raw, _Loader)  # noqa: S506 - the safe loader, in C where there is one
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path}: {_not_yaml(error)}") from None  # the cause quotes lines that may hold a secret
    application = _checked(document, path)
    if status.st_mode & stat.S_IROTH and _has_secret(application):
        raise InvalidInput(f"{path}: holds a password and is readable by others", hint=f"chmod o-r {path}")
    return application


def _not_yaml(error: Exception) -> str:
    """What is wrong and where, without the text around it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"not YAML: {error.problem or error.context} in line {mark.line + 1}, column {mark.column + 1}"
    return "not YAML"


def _has_secret(application: Application) -> bool:
    return any(isinstance(m, Server) and (m.password or m.restore_password) for m in application.members)


def _checked(document: Any, path: Path) -> Application:
    """The document as an application; what types cannot say is checked here."""
    try:
        application = msgspec.convert(document, Application)
    except msgspec.ValidationError as error:
        message = str(error).replace("`$.", "`")
        raise InvalidInput(f"{path}: {message}", field=_field(message)) from error
    for field, fault in _faults(application):
        raise InvalidInput(f"{path}: {field}: {fault}", field=field)
    return application


def _field(message: str) -> str:
    return message.rsplit("at `", 1)[-1].rstrip("`") if "at `" in message else ""


def _faults(application: Application) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for i, member in enumerate(application.members):
        where = f"members[{i}]"
        if not isinstance(member, Server):
            yield from _path_faults(f"{where}.path", member.path)
        if member.name in seen:
            yield where, f"{member.name} is declared twice"
        seen.add(member.name)
        yield from _layer_faults(f"{where}.layer", member.layer, application)
    for phase in ("before", "after"):
        for i, command in enumerate(getattr(application, phase)):
            if not command.command[0].startswith("/"):
                yield f"{phase}[{i}].command", f"{command.command[0]} is not an absolute path"
            yield from _layer_faults(f"{phase}[{i}].layer", command.layer, application)
    for i, root in enumerate(application.restore_roots):
        yield from _path_faults(f"restore_roots[{i}]", root)


def _path_faults(field: str, path: str) -> Iterator[tuple[str, str]]:
    if os.path.normpath(path) != path or path.startswith("//") or "\0" in path:
        yield field, f"{path} is not a normal path: write {os.path.normpath(path)}"


def _layer_faults(field: str, layer: str, application: Application) -> Iterator[tuple[str, str]]:
    if layer and layer not in application.layers:
        yield field, f"{layer} is none of the application's layers: {', '.join(application.layers)}"


def _recognised(given: str | Path) -> dict[str, str]:
    """A member for what lies at a path. Links are resolved now, because later none is followed."""
    path = Path(os.path.realpath(given))
    if path.is_dir():
        return {"kind": "directory", "path": str(path)}
    if path.is_block_device():
        # Under /dev a link is the stable name: what it leads to is numbered anew at each boot.
        return {"kind": "disk image", "path": os.path.abspath(given)}  # noqa: PTH100 - must not resolve the link
    if not path.is_file():
        raise InvalidInput(f"{given} is no directory, regular file or block device", field="path")
    with path.open("rb") as file:
        # The magic string of https://sqlite.org/fileformat2.html, section 1.3.
        sqlite = file.read(16) == b"SQLite format 3\0"
    return {"kind": "sqlite" if sqlite else "disk image", "path": str(path)}
