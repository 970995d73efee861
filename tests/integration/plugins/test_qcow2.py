"""What we write as qcow2 is what QEMU reads."""

from __future__ import annotations

import random
import subprocess

import pytest

from karbor.plugins.qcow2 import Qcow2

MIB = 1 << 20
CASES = {
    "tiny": (512, [(0, 512)]),
    "one cluster": (65536, [(0, 65536)]),
    "a short tail": (65536 + 512, [(65536, 512)]),
    "all of it": (3 * MIB + 512, [(0, 3 * MIB + 512)]),
    "nothing": (10 * MIB, []),
    "several tables": (1200 * MIB, [(0, 2 * MIB), (511 * MIB, 2 * MIB), (1199 * MIB, MIB)]),
    "several refcount blocks": (2200 * MIB, [(0, 2100 * MIB)]),
}


@pytest.mark.parametrize("case", CASES)
def test_qemu_finds_it_whole_and_reads_the_same_bytes(tmp_path, case):
    size, extents = CASES[case]
    block = random.Random(case).randbytes(MIB)

    def read(offset, length):
        return b"".join(block[at % MIB :][:65536] for at in range(offset, offset + length, 65536))[: size - offset]

    layout = Qcow2(size, extents)
    with (tmp_path / "disk.qcow2").open("wb") as file:
        for piece in layout.file(read):
            file.write(piece)
        assert file.tell() == layout.size
    with (tmp_path / "wanted").open("wb") as file:
        file.truncate(size)
        for offset, length in extents:
            for at in range(offset, offset + length, MIB):
                file.seek(at)
                file.write(read(at, min(MIB, offset + length - at)))
    run = ["qemu-img", "check", tmp_path / "disk.qcow2"]
    subprocess.run(run, check=True, capture_output=True)
    run = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", tmp_path / "disk.qcow2", tmp_path / "wanted"]
    subprocess.run(run, check=True, capture_output=True)
