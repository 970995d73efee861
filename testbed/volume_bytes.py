"""The bytes of a Cinder volume, through librbd: `volume_bytes.py write|read|sha256|size VOLUME [OFFSET [LENGTH]]`.

`write` takes them from standard input, `read` gives them to standard output. Runs on the testbed's own Python.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import rados
import rbd

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP = 8 << 20


@contextmanager
def opened(volume: str) -> Iterator[rbd.Image]:
    """The RBD image of a volume, opened as Cinder's own Ceph user."""
    conf = str(Path(os.environ.get("KARBOR_CLOUD", "/opt/karbor-cloud"), "etc/ceph/ceph.conf"))
    with (
        rados.Rados(conffile=conf, rados_id="cinder") as cluster,
        cluster.open_ioctx("volumes") as pool,
        rbd.Image(pool, f"volume-{volume}") as image,
    ):
        yield image


def write(volume: str, data: bytes, offset: int = 0) -> None:
    """Puts bytes at an offset and waits until they are stored."""
    with opened(volume) as image:
        image.write(data, offset)
        image.flush()


def read(volume: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The bytes from an offset, in steps of 8 MiB; to the volume's end when no length is given."""
    with opened(volume) as image:
        end = image.size() if length is None else offset + length
        while offset < end:
            step = image.read(offset, min(STEP, end - offset))
            offset += len(step)
            yield step


def sha256(volume: str, offset: int = 0, length: int | None = None) -> str:
    """The hexadecimal SHA-256 of `read`."""
    digest = hashlib.sha256()
    for step in read(volume, offset, length):
        digest.update(step)
    return digest.hexdigest()


def main(action: str, volume: str, *place: str) -> None:
    """The command line."""
    offset, length = [*(int(number) for number in place), *(0, None)[len(place) :]]
    match action:
        case "write":
            with opened(volume) as image:
                while step := sys.stdin.buffer.read(STEP):
                    offset += image.write(step, offset)
                image.flush()
        case "read":
            for step in read(volume, offset, length):
                sys.stdout.buffer.write(step)
        case "sha256":
            print(sha256(volume, offset, length))
        case "size":
            with opened(volume) as image:
                print(image.size())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
