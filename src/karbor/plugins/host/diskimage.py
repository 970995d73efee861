"""Protects declared disk images: regular files and block devices, holes kept as holes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.resource import HOST_DISK_IMAGE
from karbor.errors import KarborError, NotFound, Refused, ResourceFailed
from karbor.plugins.host import reporting
from karbor.plugins.host.beneath import check_readable_place, explained, free_bytes, opened, restore_target
from karbor.plugins.host.declaration import DiskImage
from karbor.plugins.host.devices import check_unused
from karbor.plugins.host.inventory import Inventory, moved
from karbor.plugins.host.newfile import attributes_of, check_target, give_attributes, restore_file, undo_file
from karbor.sdk.local_image import FileImage, FileTarget, image_size
from karbor.sdk.protection import Protection
from karbor.sdk.schema import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from karbor.domain.checkpoint import Consistency
    from karbor.domain.preflight import PreflightItem
    from karbor.domain.resource import Resource
    from karbor.plugins.host.declaration import Application
    from karbor.sdk.op import Look, Op
    from karbor.sdk.vault import Written

_READINGS = 3
"""How often an image that changes while it is read is read again."""


class DiskImageRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_path: Annotated[
        str | None, msgspec.Meta(title="Restore path", description="Another file or device to restore to.")
    ] = None
    overwrite: Annotated[
        bool, msgspec.Meta(title="Overwrite", description="Replace the file or the content of the device.")
    ] = False


class DiskImageProtection(Protection):
    """Disk images. One that is mounted or a swap area is refused, read or written."""

    name = "karbor-host-diskimage-plugin"
    types = (HOST_DISK_IMAGE,)
    restore_options = DiskImageRestore
    saved_info = reporting.SAVED_INFO

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._inventory = Inventory(options)

    def device_of(self, resource: Resource) -> int | None:
        """The device that the image lies on, or is; None where there is none."""
        with contextlib.suppress(OSError, NotFound):
            _, member = self._inventory.member(resource, DiskImage)
            status = os.lstat(member.path)
            return status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        return None

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """One item: the image with its size."""
        try:
            _, member = self._inventory.member(op.resource, DiskImage)
            check_readable_place(member.path, self._inventory.never)
            with explained(member.path), opened(member.path, os.O_RDONLY) as fd:
                check_unused(member.path, os.fstat(fd))
                size = image_size(fd)
        except KarborError as error:
            return [reporting.refusal(op, error)]
        return [reporting.item(op.resource, "read", member.path, size=size)]

    def protect_main(self, op: Op) -> None:
        """Store the image."""
        application, member = self._inventory.member(op.resource, DiskImage)
        check_readable_place(member.path, self._inventory.never)
        with _image(member.path, os.O_RDONLY) as fd:
            attributes = attributes_of(fd)
            written, own = _read(op, fd, member)
        op.save(
            reporting.document("disk image", written, path=member.path, attributes=attributes),
            location="bank",
            consistency=reporting.consistency(op, application, own),
        )

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """Whether the image is made or replaced, and whether there is room."""
        size = int(op.saved.get("logical_bytes", 0))
        try:
            _, options, target = self._target(op)
            if _is_device(target):
                _check_device(target, size, overwrite=options.overwrite)
                return [reporting.item(op.resource, "overwrite", target, "the content of the device", size)]
            exists = check_target(target, overwrite=options.overwrite)
            if exists:
                check_unused(target, os.lstat(target))
        except KarborError as error:
            return [reporting.refusal(op, error)]
        action = reporting.item(op.resource, "overwrite" if exists else "create", target, size=size)
        return [action, *reporting.room(op, target, size, free_bytes(target))]

    def restore_main(self, op: Op) -> None:
        """Write the image to a new file that takes its place at the end, or onto a device."""
        application, options, target = self._target(op)
        size = int(op.saved["logical_bytes"])
        if _is_device(target):
            _check_device(target, size, overwrite=options.overwrite)
            with _image(target, os.O_RDWR) as fd, explained(target):
                device = FileTarget(fd, size)
                op.vault.restore_image(device, progress=op.progress)
                device.sync()
        else:

            def fill(fd: int) -> None:
                op.vault.restore_image(FileTarget(fd, size), progress=op.progress)
                allowed = application.options
                give_attributes(fd, op.saved.get("attributes"), owners=allowed.owners, set_id_bits=allowed.set_id_bits)

            def release() -> None:
                if os.path.lexists(target):
                    check_unused(target, os.lstat(target))

            restore_file(op, target, fill, overwrite=options.overwrite, release=release)
        op.register(op.resource if options.restore_path is None else moved(op.resource, target))

    def restore_undo(self, op: Op) -> None:
        """Remove the file that was made."""
        _, _, target = self._target(op)
        undo_file(op, target)

    def verify_main(self, op: Op) -> None:
        """Read back every byte."""
        op.vault.verify(progress=op.progress)

    def _target(self, op: Look | Op) -> tuple[Application, DiskImageRestore, str]:
        application, member = self._inventory.member(op.resource, DiskImage)
        options = parse(DiskImageRestore, op.options, field="parameters")
        target = restore_target(application, member.path, options.restore_path, self._inventory.never)
        return application, options, target


@contextlib.contextmanager
def _image(path: str, flags: int) -> Iterator[int]:
    """The image, opened; a block device exclusively, which the kernel refuses for one that is in use."""
    with explained(path), opened(path, os.O_RDONLY) as probe:
        status = os.fstat(probe)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise Refused(f"{path} is no regular file or block device")
        check_unused(path, status)
        exclusive = os.O_EXCL if stat.S_ISBLK(status.st_mode) else 0
    try:
        with opened(path, flags | exclusive) as fd:
            if (os.fstat(fd).st_dev, os.fstat(fd).st_ino) != (status.st_dev, status.st_ino):
                raise ResourceFailed(f"{path} was replaced while it was opened")
            yield fd
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Refused(f"{path} is in use: it could not be opened exclusively", hint="unmount it first") from error
        raise ResourceFailed(f"{path}: {error.strerror}") from error


class _Watched:
    """An image that knows whether it was read: a replay gets what an earlier attempt stored, unread."""

    def __init__(self, fd: int) -> None:
        self._image = FileImage(fd)
        self.size = self._image.size
        self.was_read = False

    def read_at(self, offset: int, length: int) -> bytes:
        """As `FileImage`."""
        return self._image.read_at(offset, length)

    def extents(self) -> Iterator[tuple[int, int]]:
        """As `FileImage`."""
        self.was_read = True
        return self._image.extents()


def _read(op: Op, fd: int, member: DiskImage) -> tuple[Written, Consistency]:
    """Store the image; one that changes meanwhile is read again, then stored as it is, and said to be so."""
    for i in range(_READINGS):
        before = op.read(f"version {i}", lambda: _version(fd))
        image = _Watched(fd)
        written = op.vault.write_image(image, progress=op.progress)
        if _version(fd) == before and (image.was_read or i == 0):
            return written, "crash"
    if member.on_change == "fail":
        raise ResourceFailed(f"{member.path} changed while it was read, {_READINGS} times")
    op.warn(f"{member.path}: changed while read: its parts are of different moments")
    return written, "none"


def _version(fd: int) -> list[int]:
    """What changes when a regular file does; a device tells nothing, but it was opened exclusively."""
    status = os.fstat(fd)
    if stat.S_ISBLK(status.st_mode):
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.lstat(path).st_mode)
    except OSError:
        return False


def _check_device(path: str, size: int, *, overwrite: bool) -> None:
    with explained(path), opened(path, os.O_RDONLY) as fd:
        check_unused(path, os.fstat(fd))
        if image_size(fd) < size:
            raise Refused(f"{path} has {image_size(fd)} bytes, the image {size}")
    if not overwrite:
        raise Refused(f"{path} is a device", hint="ask for overwrite: its content is lost")
