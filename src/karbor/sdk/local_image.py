"""Disk images that are local files or block devices, as source and as target. For plugins; the standard library only."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import TYPE_CHECKING

from karbor.errors import InvalidInput, ResourceFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_ZEROS = bytes(1 << 20)


def image_size(fd: int) -> int:
    """Bytes of the file or block device that `fd` names."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if stat.S_ISBLK(status.st_mode):
        return os.lseek(fd, 0, os.SEEK_END)
    raise InvalidInput("a disk image is a regular file or a block device")


class FileImage:
    """An `ImageSource` on an open file or block device, which must not change while it is read. The caller closes `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = image_size(fd)

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; `ResourceFailed` where the image ends earlier or cannot be read."""
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    raise ResourceFailed(
                        f"the image ends at {offset + len(data)} in place of {self.size}: it was cut while it was read"
                    )
                data += more
        except OSError as error:
            raise ResourceFailed(f"the image cannot be read at {offset}: {error.strerror}") from error
        return data

    def extents(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what is not a hole; everything, where the file system does not tell."""
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self._fd, end, os.SEEK_DATA)
                stop = min(os.lseek(self._fd, start, os.SEEK_HOLE), self.size)
            except OSError as error:
                if error.errno != errno.ENXIO:  # which says that there is no data after `end`
                    yield end, self.size - end
                return
            yield start, stop - start
            end = stop


class FileTarget:
    """An `ImageTarget` on an open file, which gets the image's size, or on a block device of at least that size."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        self._fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, size)
        elif (room := image_size(fd)) < size:
            raise InvalidInput(f"the device has {room} bytes, the image {size}")

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`."""
        view = memoryview(data)
        while view:
            try:
                count = os.pwrite(self._fd, view, offset)
            except OSError as error:
                raise ResourceFailed(f"the image cannot be written at {offset}: {error.strerror}") from error
            offset += count
            view = view[count:]

    def zero(self, offset: int, length: int) -> None:
        """Make a hole where that is possible, otherwise write zeros."""
        if self._fallocate(self._fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length) == 0:
            return
        for start in range(offset, offset + length, len(_ZEROS)):
            self.write_at(start, _ZEROS[: offset + length - start])

    def sync(self) -> None:
        """Return when everything written survives a power failure."""
        os.fsync(self._fd)
