"""Directories and disk images through the real vault: what comes back, what is refused, what an attacker gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from karbor.errors import Conflict, InvalidInput, NotFound, Refused, ResourceFailed
from karbor.plugins.host import diskimage

MIB = 1 << 20


@pytest.fixture
def www(host, tmp_path):
    folder = tmp_path / "www"
    (folder / "img").mkdir(parents=True)
    (folder / "index.html").write_text("hello")
    (folder / "img" / "a.png").write_bytes(os.urandom(3000))
    (folder / "link").symlink_to("/etc/passwd")
    os.link(folder / "index.html", folder / "again.html")
    (folder / "img" / "a.png").chmod(0o640)
    os.utime(folder / "index.html", ns=(1, 1_500_000_000_123_456_789))
    host.declare({"kind": "directory", "path": str(folder)}, restore_roots=[str(tmp_path / "elsewhere")])
    return folder


def told(folder: Path) -> dict:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content, status.st_nlink)
    return found


def test_a_lost_directory_comes_back_as_it_was(host, www) -> None:
    before = told(www)
    kept = host.protect(str(www))
    assert (kept.location, kept.consistency, kept.saved["files"]) == ("bank", "crash", 4)
    shutil.rmtree(www)
    assert host.preflight(str(www), "restore") == [("create", str(www), "")]
    restored = host.restore(str(www))
    assert told(www) == before
    assert restored.warnings == []
    assert restored.registered.name == str(www)


def test_what_exists_is_kept_and_named_unless_asked(host, www) -> None:
    before = told(www)
    host.protect(str(www))
    (www / "img" / "a.png").write_bytes(b"changed")
    (www / "link").unlink()
    restored = host.restore(str(www))
    assert (www / "img" / "a.png").read_bytes() == b"changed"
    assert restored.warnings == [f"{www}: 1 exists: img/a.png"]
    assert host.restore(str(www), overwrite=True).warnings == []
    assert told(www) == before


def test_one_file_to_another_place(host, www, tmp_path) -> None:
    host.protect(str(www))
    other = tmp_path / "elsewhere" / "deep"
    restored = host.restore(str(www), restore_path=str(other), path="img/a.png")
    assert told(other).keys() == {"img", "img/a.png"}
    assert restored.registered.extra_info["path"] == str(other)
    assert restored.registered.id != host.stage(str(www), "restore", {})[1].resource.id
    with pytest.raises(NotFound):
        host.restore(str(www), path="img/none.png")
    with pytest.raises(Refused, match="not empty"):
        host.restore(str(www), restore_path=str(other))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/etc", Refused), ("/", Refused), ("{home}/elsewhere/../www2", InvalidInput), ("elsewhere", InvalidInput),
        ("{home}/elsewhere2", Refused), ("{home}/bank", Refused),
    ],
)  # fmt: skip
def test_restores_stay_below_what_was_declared(host, www, tmp_path, path, error) -> None:
    host.protect(str(www))
    path = path.format(home=tmp_path)
    with pytest.raises(error):
        host.restore(str(www), restore_path=path)
    [(action, _, reason)] = host.preflight(str(www), "restore", restore_path=path)
    assert action == "refuse"
    assert reason


def test_a_declared_root_does_not_open_the_bank(host, www, tmp_path) -> None:
    host.protect(str(www))
    host.declare({"kind": "directory", "path": str(www)}, restore_roots=[str(tmp_path)])
    for path in (tmp_path, tmp_path / "bank", tmp_path / "bank" / "data"):
        with pytest.raises(Refused, match="the service's own data"):
            host.restore(str(www), restore_path=str(path))


def test_a_link_on_the_way_is_never_followed(host, www, tmp_path) -> None:
    host.protect(str(www))
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "elsewhere").symlink_to(victim)
    with pytest.raises(Refused, match="elsewhere is a link"):
        host.restore(str(www), restore_path=str(tmp_path / "elsewhere" / "x"))
    shutil.rmtree(www)
    www.symlink_to(victim)
    for operation in ("protect", "restore"):
        with pytest.raises(Refused, match="www is a link"):
            host.run(str(www), operation)
        host.journals.clear()
    assert list(victim.iterdir()) == []


def test_a_race_of_links_leads_nowhere(host, www, tmp_path) -> None:
    """Somebody swaps the target's parent for a link, over and over, while restores run."""
    host.protect(str(www))
    victim = tmp_path / "victim"
    victim.mkdir()
    parent = tmp_path / "elsewhere" / "inner"
    over = threading.Event()

    def attack() -> None:
        while not over.is_set():
            try:
                parent.rename(tmp_path / "aside")
                parent.symlink_to(victim)
                parent.unlink()
                (tmp_path / "aside").rename(parent)
            except OSError:
                shutil.rmtree(tmp_path / "aside", ignore_errors=True)

    parent.mkdir(parents=True)
    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        for i in range(100):
            try:
                host.restore(str(www), restore_path=str(parent / f"r{i}"))
            except (Refused, ResourceFailed):
                host.journals.clear()
    finally:
        over.set()
        attacker.join()
    assert list(victim.iterdir()) == []


def test_two_restores_to_one_place_at_once(host, www, tmp_path) -> None:
    host.protect(str(www))
    shutil.rmtree(www)
    www.mkdir()
    from karbor.plugins.host.beneath import directory, lock

    with directory(str(www)) as fd:
        lock(fd, "it")
        with pytest.raises(Conflict, match=f"another restore is writing to {www}"):
            host.restore(str(www))


def test_members_below_a_directory_are_left_to_themselves(host, tmp_path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("a.html", "odd [x]*.db", "odd [x]*.db-wal", "vm.img"):
        (folder / name).write_text(name)
    host.declare(
        {"kind": "directory", "path": str(folder)},
        {"kind": "sqlite", "path": str(folder / "odd [x]*.db")},
        {"kind": "disk image", "path": str(folder / "vm.img")},
    )
    assert host.protect(str(folder)).saved["skipped_count"] == {"excluded": 3}


def test_the_services_own_data_never_enters(host, tmp_path) -> None:
    host.declare({"kind": "directory", "path": str(tmp_path)})
    assert host.protect(str(tmp_path)).saved["skipped_count"] == {"never": 1}
    host.declare({"kind": "directory", "path": str(tmp_path / "bank")})
    with pytest.raises(Refused, match="the service's own data"):
        host.protect(str(tmp_path / "bank"))
    [(action, _, _)] = host.preflight(str(tmp_path / "bank"), "protect")
    assert action == "refuse"


# --- disk images


@pytest.fixture
def image(host, tmp_path):
    path = tmp_path / "vm.img"
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.seek(40 * MIB)
        file.write(b"end")
        file.truncate(64 * MIB)
    path.chmod(0o4640)
    host.declare({"kind": "disk image", "path": str(path)}, restore_roots=["/dev/loop7", "/dev/loop6"])
    return path


def test_a_lost_image_comes_back_with_its_holes(host, image) -> None:
    content, status = image.read_bytes(), image.stat()
    kept = host.protect(str(image))
    assert (kept.location, kept.consistency) == ("bank", "crash")
    image.unlink()
    host.restore(str(image))
    assert image.read_bytes() == content
    again = image.stat()
    assert again.st_mtime_ns == status.st_mtime_ns
    assert again.st_mode & 0o7777 == 0o640  # without the set-id bit
    assert again.st_blocks * 512 <= 2 * MIB


def test_an_image_that_exists_is_replaced_only_when_asked(host, image) -> None:
    content = image.read_bytes()
    host.protect(str(image))
    image.write_bytes(b"other")
    with pytest.raises(Refused, match="exists"):
        host.restore(str(image))
    host.journals.clear()
    assert host.preflight(str(image), "restore")[0][0] == "refuse"
    assert host.preflight(str(image), "restore", overwrite=True) == [("overwrite", str(image), "")]
    host.restore(str(image), overwrite=True)
    assert image.read_bytes() == content
    assert [path.name for path in image.parent.iterdir() if "partial" in path.name] == []


def test_an_image_that_a_machine_runs_on_is_not_replaced(host, image) -> None:
    host.protect(str(image))
    with image.open("r+b"):
        [(action, _, reason)] = host.preflight(str(image), "restore", overwrite=True)
        assert (action, reason) == ("refuse", f"{image} is in use (stop what uses it, or restore to another path)")
        with pytest.raises(Refused, match="is in use"):
            host.restore(str(image), overwrite=True)
    host.journals.clear()
    host.restore(str(image), overwrite=True)


def test_two_image_restores_at_once(host, image) -> None:
    from karbor.plugins.host.beneath import parent
    from karbor.plugins.host.newfile import _locked, _partial

    host.protect(str(image))
    image.unlink()
    with (
        parent(str(image)) as (folder, name),
        _locked(folder, _partial(name), str(image), fresh=False),
        pytest.raises(Conflict, match=f"another restore is writing to {image}"),
    ):
        host.restore(str(image))
    assert not image.exists()


def test_what_a_killed_restore_left_is_removed_by_the_next(host, image) -> None:
    content = image.read_bytes()
    host.protect(str(image))
    image.unlink()
    (image.parent / ".vm.img.karbor-partial").write_bytes(b"half")
    host.restore(str(image))
    assert image.read_bytes() == content
    assert not (image.parent / ".vm.img.karbor-partial").exists()


def test_an_image_that_changes_while_it_is_read(host, image, monkeypatch) -> None:
    class Changing(diskimage.FileImage):
        def extents(self):
            with image.open("r+b") as file:
                file.write(os.urandom(8))
            os.utime(image)
            return super().extents()

    monkeypatch.setattr(diskimage, "FileImage", Changing)
    kept = host.protect(str(image))
    assert kept.consistency == "none"
    assert kept.warnings == [f"{image}: changed while read: its parts are of different moments"]
    host.declare({"kind": "disk image", "path": str(image), "on_change": "fail"})
    with pytest.raises(ResourceFailed, match="changed while it was read, 3 times"):
        host.protect(str(image))


def test_an_image_that_is_a_link_is_refused(host, image) -> None:
    image.rename(image.parent / "real")
    image.symlink_to("real")
    with pytest.raises(Refused, match="symbolic link"):
        host.protect(str(image))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices, mounts and swap need root")


@pytest.fixture
def loop(image):
    device = subprocess.run(
        ["losetup", "-f", "--show", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


@needs_root
def test_a_block_device_is_read_and_written_exclusively(host, image, loop, tmp_path) -> None:
    host.declare({"kind": "disk image", "path": loop})
    content = image.read_bytes()
    host.protect(loop)
    with pytest.raises(Refused, match="is a device"):
        host.restore(loop)
    host.journals.clear()
    with Path(loop).open("r+b") as device:
        device.write(bytes(MIB))
        os.fsync(device.fileno())
    host.restore(loop, overwrite=True)
    assert Path(loop).read_bytes() == content
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", loop, mounted], check=True)
    try:
        for operation, options in (("protect", {}), ("restore", {"overwrite": True})):
            [(action, _, reason)] = host.preflight(loop, operation, **options)
            assert (action, reason) == ("refuse", f"{loop} is mounted at {mounted} (unmount it first)")
            with pytest.raises(Refused, match="is mounted at"):
                host.run(loop, operation, **options)
            host.journals.clear()
        # The file below the device is in use just as much.
        host.declare({"kind": "disk image", "path": str(image)})
        with pytest.raises(Refused, match="is mounted at"):
            host.protect(str(image))
    finally:
        subprocess.run(["umount", mounted], check=True)


@needs_root
def test_a_swap_area_is_refused(host, image, loop) -> None:
    subprocess.run(["mkswap", "-q", loop], check=True)
    if subprocess.run(["swapon", loop], check=False, capture_output=True).returncode:
        pytest.skip("this kernel allows no swap area")
    try:
        host.declare({"kind": "disk image", "path": loop})
        with pytest.raises(Refused, match="is a swap area"):
            host.protect(loop)
    finally:
        subprocess.run(["swapoff", loop], check=True)


@needs_root
def test_a_device_in_use_is_not_opened(host, loop, monkeypatch) -> None:
    """Whatever /proc says: the kernel's own claim decides."""
    host.declare({"kind": "disk image", "path": loop})
    fd = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(Refused, match="could not be opened exclusively"):
            host.protect(loop)
    finally:
        os.close(fd)


@needs_root
def test_a_target_without_room_is_a_reason_and_leaves_nothing(host, image, tmp_path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", small], check=True)
    try:
        host.declare({"kind": "disk image", "path": str(image)}, restore_roots=[str(small)])
        host.protect(str(image))
        asked = {"restore_path": str(small / "vm.img")}
        assert "refuse" in [action for action, _, _ in host.preflight(str(image), "restore", **asked)]
        with pytest.raises(ResourceFailed, match="No space left on device"):
            host.restore(str(image), **asked)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
