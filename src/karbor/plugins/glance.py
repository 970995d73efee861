"""Images in Glance, made and found by an id that follows from the tag, filled from the vault, removed for sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.errors import Conflict, NotFound, ResourceFailed
from karbor.plugins.qcow2 import Qcow2
from karbor.plugins.waiting import image_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from karbor.plugins.waiting import Pace
    from karbor.sdk.cloud import CloudSession
    from karbor.sdk.op import Op

GIB = 1 << 30


def show_image(session: Any, ident: str) -> dict[str, Any]:
    """An image as Glance shows it: its properties stand beside its attributes."""
    found: dict[str, Any] = session.connection.image.get(f"/images/{ident}", raise_exc=True).json()
    return found


def find_image(session: Any, tag: str) -> str | None:
    """The image that was made for a tag."""
    try:
        return str(show_image(session, image_id_of(tag))["id"])
    except NotFound:
        return None


def remove_image(session: Any, ident: str) -> None:
    """Delete an image; one that is gone is as good."""
    session.connection.image.delete_image(ident, ignore_missing=True)


def discard_image(op: Op, ident: str) -> None:
    """Delete a temporary image; one that a back end has made copy-on-write clones of stays, which is said."""
    try:
        remove_image(op.session, ident)
    except Conflict as error:
        op.warn(f"the temporary image {ident} can be deleted only when what was made from it is gone: {error.message}")


class Upload:
    """One image made from what the vault holds of a resource; `body` are attributes and properties of the new image.

    A `temporary` one of raw bytes is uploaded as qcow2, which nothing makes copy-on-write clones of, unless the disk is
    so full that the file would be larger than the disk may be.
    """

    def __init__(self, op: Op, pace: Pace, name: str, size: int, *, temporary: bool = False, **body: Any) -> None:
        self._op, self._pace, self._size = op, pace, size
        self._session: CloudSession = op.session
        self._layout = self._qcow2() if temporary and body["disk_format"] == "raw" else None
        kind = {"disk_format": "qcow2"} if self._layout else {}
        self._body = {"name": name, "container_format": "bare", "visibility": "private", **body, **kind}
        self.ident = ""

    def _qcow2(self) -> Qcow2 | None:
        layout = Qcow2(self._size, self._op.vault.image().extents())
        return layout if layout.size <= -(-self._size // GIB) * GIB else None

    def make(self) -> str:
        """Make the image, still without bytes; returns its id."""

        def make(tag: str) -> str:
            body = {**self._body, "id": image_id_of(tag)}
            answer = self._session.connection.image.post("/images", json=body, raise_exc=True)
            return str(answer.json()["id"])

        self.ident = self._op.once("image", make, lambda tag: find_image(self._session, tag))
        return self.ident

    def fill(self, *, hash_value: str = "") -> None:
        """Upload the bytes and wait until Glance has them; `hash_value` is what Glance's own hash must be."""
        size = self._layout.size if self._layout else self._size
        image = show_image(self._session, self.ident)
        if image["status"] in {"queued", "saving"}:
            self._send(size, self._layout.file(self._read()) if self._layout else self._op.vault.read_stream())
        self._wait()
        found = show_image(self._session, self.ident)
        if found["size"] != size or (hash_value and found.get("os_hash_value") != hash_value):
            raise ResourceFailed(f"image {self.ident} is not what was uploaded: {found['size']} of {size} bytes")

    def _read(self) -> Callable[[int, int], bytes]:
        return self._op.vault.image().read

    def _send(self, size: int, blocks: Iterable[bytes]) -> None:
        try:
            self._session.write_image(self.ident, size, self._counted(size, blocks))
        except Conflict as error:  # an upload that was cut off: Glance takes no second one
            if show_image(self._session, self.ident)["status"] != "active":
                raise ResourceFailed(f"image {self.ident} is half uploaded: {error.message}") from error

    def _counted(self, size: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
        done = 0
        for block in blocks:
            self._op.progress(done, size)
            yield block
            done += len(block)

    def _wait(self) -> None:
        def get() -> Any:
            return self._session.connection.image.get_image(self.ident)

        self._pace.until(self._op, "upload", get, {"active"}, {"saving", "importing"})
