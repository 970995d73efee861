"""`karbor.sdk.vault.Vault` of one resource, on a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from karbor.bank.vault.browse import data_nodes
from karbor.bank.vault.files_read import restore_tree
from karbor.bank.vault.files_write import DATA, write_tree
from karbor.bank.vault.image import DEFAULT_CHUNK, ImageWriter
from karbor.bank.vault.nodes import Node
from karbor.bank.vault.reader import Content
from karbor.bank.vault.stream import write_stream
from karbor.bank.vault.walk import walk
from karbor.bank.vault.wireformat import quote
from karbor.bank.vault.workers import Tally
from karbor.errors import Damaged, InvalidInput, NotFound, ObjectMissing
from karbor.sdk.vault import Restored, Verified, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from karbor.bank.vault.repository import Repository
    from karbor.bank.vault.writer import Writer
    from karbor.sdk.vault import ImageReader, ImageSource, ImageTarget, RestoreOptions, TreeOptions

_BATCH = 1 << 16
"""Blobs that are verified together: fetched once each, in the order of the packs."""


class ResourceVault:
    """The bytes of one resource.

    To write, give a `writer` and, for increments, `previous_tree`: the resource's tree in its previous checkpoint.
    To read, give `data_tree`. `chunk_size` is that of new images, in bytes.
    """

    def __init__(
        self,
        repository: Repository,
        writer: Writer | None,
        *,
        data_tree: bytes | None = None,
        previous_tree: bytes | None = None,
        chunk_size: int = DEFAULT_CHUNK,
        threads: int = 2,
    ) -> None:
        self._repository, self._writer = repository, writer
        self._data_tree, self._previous_tree = data_tree, previous_tree
        self._chunk_size, self._threads = chunk_size, threads

    # --- write

    def write_image(
        self,
        source: ImageSource,
        *,
        changed: Iterable[tuple[int, int]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Written:
        """Store an image in fixed chunks; with `changed`, only what changed is read where the rest can be inherited."""
        writer = self._open_writer()
        image = ImageWriter(
            writer,
            source,
            previous=tuple(node for node in self._previous() if node.type == "file"),
            smallest=self._chunk_size,
            threads=self._threads,
            progress=progress,
        )
        nodes, figures = image.write(changed)
        return self._written(writer, nodes, source.size, read=figures.read, added=figures.added)

    def write_stream(self, source: Iterable[bytes], *, progress: Callable[[int, int], None] | None = None) -> Written:
        """Store a stream in content-defined chunks."""
        writer = self._open_writer()
        stored = write_stream(writer, source, threads=self._threads, progress=progress)
        node = self._unchanged(stored.content, stored.size) or self._file_node(stored.content, stored.size)
        return self._written(writer, [node], stored.size, read=stored.size, added=stored.added)

    def write_tree(
        self, root: int, options: TreeOptions, *, progress: Callable[[int, int], None] | None = None
    ) -> Written:
        """Store the directory that the descriptor `root` names."""
        writer = self._open_writer()
        previous = next((node.subtree for node in self._previous() if node.type == "dir"), b"")
        found = write_tree(writer, root, options, previous=previous, threads=self._threads, progress=progress)
        tree = writer.save_tree([found.node])
        writer.flush()
        return Written(
            tree=tree.hex(),
            logical_bytes=found.logical_bytes,
            read_bytes=found.read_bytes,
            added_bytes=found.added_bytes,
            files=found.files,
            skipped=found.skipped,
            skipped_count=found.skipped_count,
        )

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise InvalidInput("this vault was opened for reading")
        return self._writer

    def _previous(self) -> tuple[Node, ...]:
        return data_nodes(self._repository, self._previous_tree) if self._previous_tree else ()

    def _unchanged(self, content: bytes, size: int) -> Node | None:
        same = (node for node in self._previous() if (node.name, node.size, node.content) == (DATA, size, content))
        return next(same, None)

    def _file_node(self, content: bytes, size: int) -> Node:
        now = self._repository.now_ns()
        return Node(
            name=DATA, type="file", mode=0o600, mtime=now, atime=now, ctime=now, size=size, links=1, content=content
        )

    def _written(self, writer: Writer, nodes: list[Node], size: int, *, read: int, added: int) -> Written:
        tree = writer.save_tree(nodes)
        writer.flush()
        return Written(tree=tree.hex(), logical_bytes=size, read_bytes=read, added_bytes=added)

    # --- read

    def image(self) -> ImageReader:
        """Random access to the stored image or stream."""
        return self._content()

    def restore_image(self, target: ImageTarget, *, progress: Callable[[int, int], None] | None = None) -> Restored:
        """Write the stored image to `target`, holes as holes."""
        content = self._content()
        content.restore(target, threads=self._threads, progress=progress)
        return Restored(logical_bytes=content.size)

    def read_stream(self) -> Iterator[bytes]:
        """The stored stream from its start."""
        return self._content().stream(threads=self._threads)

    def restore_tree(
        self,
        target: int,
        options: RestoreOptions,
        *,
        path: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> Restored:
        """Write the stored tree, or what lies at `path` in it, below the directory descriptor `target`."""
        node = self._data()[0]
        if node.type != "dir":
            raise InvalidInput("the resource stored no directory")
        return restore_tree(
            self._repository, node, target, options, path=path, threads=self._threads, progress=progress
        )

    def verify(self, *, progress: Callable[[int, int], None] | None = None) -> Verified:
        """Read back every byte of the resource and hash it again; raises `Damaged` naming the bank object and the
        files that have bytes in it.
        """
        try:
            return self._read_back(progress)
        except (Damaged, ObjectMissing) as error:
            reason = error.reason if isinstance(error, Damaged) else "it is missing"
            found = self._files_in(error.key)
            raise Damaged(error.key, f"{reason}; it holds bytes of {found}" if found else reason) from error

    def _files_in(self, pack: str) -> str:
        """The files with bytes in a pack, for people: the first by its path, and how many more."""
        index, prefix = self._repository.index, self._repository.pack_path
        hit: list[str] = []
        for path, node in walk(self._repository, self._stored_tree()):
            ids = (node.content[at : at + 32] for at in range(0, len(node.content), 32))
            if any(prefix(place.pack) == pack for blob in ids for place in index.places("data", blob)):
                hit.append(quote(path))
        more = f" and {len(hit) - 1} other files" if len(hit) > 1 else ""
        return f"{hit[0]}{more}" if hit else ""

    def _read_back(self, progress: Callable[[int, int], None] | None) -> Verified:
        tally = Tally(0, progress)
        blobs = 0
        ids = bytearray()
        for _, node in walk(self._repository, self._stored_tree()):
            ids += node.content
            while len(ids) >= 32 * _BATCH:
                blobs += self._verify(bytes(ids[: 32 * _BATCH]), tally)
                del ids[: 32 * _BATCH]
        blobs += self._verify(bytes(ids), tally)
        return Verified(logical_bytes=tally.done, blobs=blobs)

    def _verify(self, ids: bytes, tally: Tally) -> int:
        return Content(self._repository, ids).verify(tally, threads=self._threads)

    def _content(self) -> Content:
        nodes = self._data()
        if nodes[0].type != "file":
            raise InvalidInput("the resource stored a directory, no image or stream")
        return Content.of(self._repository, nodes)

    def _data(self) -> tuple[Node, ...]:
        nodes = data_nodes(self._repository, self._stored_tree())
        if not nodes:
            raise NotFound("the resource stored no data in the vault")
        return nodes

    def _stored_tree(self) -> bytes:
        if self._data_tree is None:
            raise InvalidInput("this vault was opened for writing")
        return self._data_tree
