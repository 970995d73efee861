"""`karbor checkpoint ls` and `get`: what lies in a checkpoint, and one file of it, by ranged reads."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

from karbor.cli.arguments import named, provider
from karbor.cli.checkpoints import resources
from karbor.cli.display import display
from karbor.cli.naming import ambiguous, checkpoint_path, find_checkpoint
from karbor.cli.progress import Rate
from karbor.cli.verbs import Table, Verb
from karbor.errors import Conflict, NotFound, Refused, Unavailable
from karbor.wire.answers import Entry, Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence

    from karbor.cli.api import Item
    from karbor.cli.session import Session

BLOCK = 8 * 1024 * 1024
"""Bytes asked for at a time."""
ATTEMPTS = 5
"""How often one block is asked for before the copy is given up."""

_PREFIX = 4
"""Letters that a beginning of an id or name must have at least."""


def pick_resource(known: Sequence[Item], selector: str) -> Item:
    """The resource of a checkpoint with that key, id or name, or with the only id or name that begins so."""
    names = ("key", "id", "name")
    for found in (
        [item for item in known if selector in (item[name] for name in names)],
        [item for item in known if len(selector) >= _PREFIX and _begins(item, selector)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise ambiguous(selector, "resource", [item["key"] for item in found], hint="give the whole key")
    raise NotFound(f"the checkpoint has no resource {selector!r}", hint="`karbor checkpoint ls CHECKPOINT` shows them")


def _begins(item: Item, selector: str) -> bool:
    return any((item[name] or "").startswith(selector) for name in ("key", "id", "name"))


def locate(known: Sequence[Item], text: str) -> tuple[Item, str]:
    """Resource and path within it, from ``RESOURCE[/PATH]``. Names of resources may hold slashes themselves: the
    longest beginning that is a key, an id or a name counts; else what stands before the first slash is looked up.
    """
    exact = [
        (len(name), item, text[len(name) :].strip("/"))
        for item in known
        for name in (item["key"], item["id"], item["name"])
        if name and (text == name or text.startswith(name.rstrip("/") + "/"))
    ]
    longest = [(item, path) for length, item, path in exact if length == max(exact, key=lambda e: e[0])[0]]
    if len({item["key"] for item, _ in longest}) > 1:
        raise ambiguous(text, "resource", [item["key"] for item, _ in longest], hint="give the whole key")
    if longest:
        return longest[0]
    selector, _, path = text.partition("/")
    return pick_resource(known, selector), path.strip("/")


def _ls(session: Session, args: Namespace) -> Table:
    checkpoint = find_checkpoint(session.api, args.provider, args.checkpoint)
    known = list(resources(checkpoint))
    if not args.where:
        return Table(("type", "id", "name", "status", "logical_bytes", "files", "consistency", "reason"), tuple(known))
    resource, path = locate(known, args.where)
    query = {"resource": resource["key"], "path": path}
    found = session.api.get(f"{checkpoint_path(checkpoint)}/entries", "entries", query)
    entries = msgspec.convert(found, list[Entry])
    return Table(("mode", "size", "modified", "name"), tuple(_listed(entry) for entry in entries))


def _listed(entry: Entry) -> Item:
    kind = {"dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "dev": stat.S_IFBLK, "chardev": stat.S_IFCHR}
    kind |= {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
    return {
        "mode": stat.filemode(kind.get(entry.type, stat.S_IFREG) | entry.mode),
        "size": entry.size,
        "modified": entry.modified,
        "name": f"{_typable(entry)} -> {_printable(entry.target)}" if entry.target else _typable(entry),
    }


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _typable(entry: Entry) -> str:
    """The name as a shell takes it: bytes that are not UTF-8 or would steer the terminal stand in ``$'…'``."""
    if not entry.quoted and entry.name.isprintable():
        return entry.name
    raw = unquote_to_bytes(entry.quoted) if entry.quoted else entry.name.encode()
    escaped = "".join(chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in raw)
    return f"$'{escaped}'"


def _get(session: Session, args: Namespace) -> Item | None:
    checkpoint = find_checkpoint(session.api, args.provider, args.checkpoint)
    resource, path = locate(list(resources(checkpoint)), args.where)
    target = f"{checkpoint_path(checkpoint)}/content"
    blocks = _shown(session, _blocks(session, target, {"resource": resource["key"], "path": path}), args.where)
    if args.output == "-":
        for data in blocks:
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return None
    file = Path(args.output)
    if file.is_dir():
        file /= Path(path or resource["name"] or resource["id"]).name
    if file.exists() and not args.force:
        raise Conflict(f"{file} exists", hint="--force replaces it")
    return {"resource": resource["key"], "path": path, "file": str(file), "size": _write(file, blocks)}


def _blocks(session: Session, target: str, query: Item) -> Iterator[tuple[bytes, int]]:
    """The bytes of one file, block by block, each with the size of the whole."""
    done, total = 0, 1
    while done < total:
        data, total = _block(session, target, query, done)
        if not data and done < total:
            raise Unavailable(f"the service sent nothing for the bytes from {done} of {total}")
        done += len(data)
        yield data, total


def _block(session: Session, target: str, query: Item, first: int) -> tuple[bytes, int]:
    for attempt in range(ATTEMPTS):
        try:
            return session.api.block(target, query, first, BLOCK)
        except Unavailable:
            if attempt == ATTEMPTS - 1:
                raise
            session.sleep(2.0**attempt)
    raise AssertionError  # the last attempt has returned or raised


def _shown(session: Session, blocks: Iterator[tuple[bytes, int]], title: str) -> Iterator[bytes]:
    """The same bytes, with their progress shown."""
    show, rate, done = display(session.terminal, title), Rate(), 0
    rate.add(session.monotonic(), 0)
    try:
        for data, total in blocks:
            yield data
            done += len(data)
            rate.add(session.monotonic(), done)
            show.update(session.monotonic(), Progress(done_bytes=done, total_bytes=total), rate.per_second)
    finally:
        show.close()


def _write(file: Path, blocks: Iterator[bytes]) -> int:
    """Write the file under another name and give it its own at the end: it is there whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as out:
            for data in blocks:
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
            written = out.tell()
        part.replace(file)
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return written


def _where(parser: ArgumentParser) -> None:
    parser.add_argument(
        "where", metavar="RESOURCE[/PATH]", nargs="?", help="resource by key, id, name or unique beginning; all if none"
    )


def _from(parser: ArgumentParser) -> None:
    parser.add_argument(
        "where", metavar="RESOURCE[/PATH]", help="resource by key, id, name or unique beginning, and a file in it"
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write it; - is standard output")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")


VERBS = (
    Verb(
        name="checkpoint ls",
        help="List what lies in a checkpoint",
        run=_ls,
        arguments=(named("checkpoint"), _where, provider),
    ),
    Verb(
        name="checkpoint get",
        help="Copy one file out of a checkpoint",
        run=_get,
        arguments=(named("checkpoint"), _from, provider),
    ),
)
