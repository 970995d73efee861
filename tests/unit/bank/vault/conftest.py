"""A repository in a scratch folder, a clock that only moves when told, and images in memory."""

from __future__ import annotations

import pytest
from tests.memory_bank import SetClock

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.repository import Repository

PREFIX = "provider/project-g1/"


class MemoryImage:
    """An image source; zeros are holes, to the byte range given."""

    def __init__(self, data, extents=None):
        self.data, self.size, self.reads = bytes(data), len(data), []
        self._extents = extents

    def read_at(self, offset, length):
        assert offset + length <= self.size
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def extents(self):
        return iter([(0, self.size)] if self._extents is None else self._extents)


class MemoryTarget:
    def __init__(self, size):
        self.data, self.zeroed = bytearray(b"?" * size), 0

    def write_at(self, offset, data):
        self.data[offset : offset + len(data)] = data

    def zero(self, offset, length):
        self.data[offset : offset + length] = bytes(length)
        self.zeroed += length


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def bank(tmp_path):
    bank = FilesystemBank(str(tmp_path / "bank"))
    yield bank
    bank.close()


@pytest.fixture
def repository(bank, clock):
    return Repository.create(bank, PREFIX, "a secret", clock=clock)


@pytest.fixture
def reopen(bank, clock):
    return lambda: Repository.open(bank, PREFIX, "a secret", clock=clock)


@pytest.fixture
def memory_image():
    return MemoryImage


@pytest.fixture
def memory_target():
    return MemoryTarget
