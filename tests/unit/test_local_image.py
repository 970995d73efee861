"""Local disk images as source and target."""

from __future__ import annotations

import os

import pytest

from karbor.errors import InvalidInput, ResourceFailed
from karbor.sdk.local_image import FileImage, FileTarget

MIB = 1 << 20


@pytest.fixture
def opened():
    files = []

    def open_one(path, flags=os.O_RDONLY):
        files.append(os.open(path, flags, 0o600))
        return files[-1]

    yield open_one
    for file in files:
        os.close(file)


def test_extents_are_what_holds_data(tmp_path, opened):
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for at in (2 * MIB, 5 * MIB):
            file.seek(at)
            file.write(b"x" * 4096)
    image = FileImage(opened(path))
    assert image.size == 8 * MIB
    assert list(image.extents()) == [(2 * MIB, 4096), (5 * MIB, 4096)]
    assert image.read_at(2 * MIB - 1, 3) == b"\0xx"


@pytest.mark.parametrize("size", [0, 5])
def test_small_images(tmp_path, opened, size):
    path = tmp_path / "image"
    path.write_bytes(b"x" * size)
    image = FileImage(opened(path))
    assert sum(length for _, length in image.extents()) == size
    assert image.read_at(0, size) == b"x" * size


def test_everything_may_be_data_where_the_system_does_not_tell(tmp_path, opened, monkeypatch):
    path = tmp_path / "image"
    path.write_bytes(b"x" * 100)
    image = FileImage(opened(path))

    def no_seek(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", no_seek)
    assert list(image.extents()) == [(0, 100)]


def test_an_image_that_is_cut_while_it_is_read_fails(tmp_path, opened):
    path = tmp_path / "image"
    path.write_bytes(b"x" * 100)
    image = FileImage(opened(path))
    os.truncate(path, 50)
    with pytest.raises(ResourceFailed, match="ends at 50"):
        image.read_at(0, 100)


def test_only_files_and_devices_are_images(tmp_path, opened):
    with pytest.raises(InvalidInput):
        FileImage(opened(tmp_path))


def test_a_target_gets_the_size_and_holes(tmp_path, opened):
    path = tmp_path / "image"
    path.write_bytes(b"y" * (6 * MIB))
    target = FileTarget(opened(path, os.O_RDWR), 4 * MIB)
    target.write_at(MIB, memoryview(b"data"))
    target.zero(2 * MIB, 2 * MIB)
    target.sync()
    assert path.read_bytes() == b"y" * MIB + b"data" + b"y" * (MIB - 4) + bytes(2 * MIB)
    assert path.stat().st_blocks * 512 < 3 * MIB


def test_zeros_are_written_where_holes_cannot_be(tmp_path, opened):
    path = tmp_path / "image"
    path.write_bytes(b"y" * (4 * MIB))
    target = FileTarget(opened(path, os.O_RDWR), 4 * MIB)
    target._fallocate = lambda *_: -1
    target.zero(MIB // 2, 2 * MIB + 5)
    assert path.read_bytes() == b"y" * (MIB // 2) + bytes(2 * MIB + 5) + b"y" * (3 * MIB // 2 - 5)


def test_a_failed_write_is_a_failed_resource(opened):
    with pytest.raises(ResourceFailed, match="cannot be written"):
        FileTarget.write_at(_full(opened), 0, b"x" * 10_000)


def _full(opened):
    target = FileTarget.__new__(FileTarget)
    target._fd = opened("/dev/full", os.O_WRONLY)
    return target
