"""What the folder store promises beyond the contract: its folder, its scratch files, what the system says."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from karbor.bank.stores import filesystem
from karbor.bank.stores.filesystem import MARKER, SCRATCH, FilesystemBank, open_bank
from karbor.errors import BankError, BankForeign, BankFull, Damaged, InvalidInput, ObjectMissing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "bank"


@pytest.fixture
def bank(folder):
    bank = FilesystemBank(str(folder))
    yield bank
    bank.close()


def test_options_name_the_folder(folder):
    for option in ("path", "file_system_bank_path"):
        opened = open_bank({option: str(folder)})
        assert (opened.kind, opened.location) == ("filesystem", str(folder))
        opened.close()
    with pytest.raises(InvalidInput, match="path"):
        open_bank({})
    with pytest.raises(InvalidInput, match="absolute"):
        open_bank({"path": "relative/bank"})


def test_nobody_else_may_look(bank, folder):
    bank.put("a/b/object", [b"x"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes == {"bank": 0o700, MARKER: 0o600, SCRATCH: 0o700, "a": 0o700, "b": 0o700, "object": 0o600}


def test_an_empty_folder_is_adopted_and_kept(folder):
    folder.mkdir(parents=True)
    (folder / "lost+found").mkdir()
    FilesystemBank(str(folder)).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "something-of-the-administrator").touch()
    FilesystemBank(str(folder)).close()


def test_a_folder_with_other_things_is_refused_and_untouched(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    before = folder.stat()
    with pytest.raises(BankForeign, match=r"thesis\.txt"):
        FilesystemBank(str(folder))
    assert names(folder) == ["thesis.txt"]
    assert folder.stat().st_mode == before.st_mode


def test_a_bank_of_a_later_kind_is_refused(bank, folder):
    (folder / MARKER).write_text("karbor bank 2\n")
    with pytest.raises(BankForeign, match="does not know"):
        FilesystemBank(str(folder))


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BankError, match="exists"):
        FilesystemBank(str(tmp_path / "file"))


def test_links_are_not_followed(bank, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder / "linked").symlink_to(outside)
    bank.put("real/object", [b"x"])
    (folder / "real" / "link").symlink_to(outside / "secret")
    with pytest.raises(ObjectMissing):
        bank.get("linked/secret", limit=99)
    with pytest.raises(InvalidInput):
        bank.put("linked/new", [b"x"])
    with pytest.raises(BankForeign, match="link"):
        bank.get("real/link", limit=99)
    bank.delete("linked/secret")
    assert [one.key for one in bank.list("")] == ["real/object"]
    bank.put("real/link", [b"mine"])
    assert names(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_what_is_no_file_is_no_object(bank, folder):
    bank.put("d/object", [b"x"])
    os.mkfifo(folder / "d" / "fifo")
    with pytest.raises(Damaged, match="regular"):
        bank.get("d/fifo", limit=9)
    with pytest.raises(ObjectMissing):
        bank.stat("d/fifo")
    assert [one.key for one in bank.list("d/")] == ["d/object"]


def test_an_object_and_a_folder_cannot_have_one_name(bank):
    bank.put("a/b", [b"x"])
    with pytest.raises(InvalidInput, match="one name"):
        bank.put("a", [b"x"])
    with pytest.raises(InvalidInput, match="one name"):
        bank.put("a/b/c", [b"x"])
    assert bank.get("a/b", limit=9) == b"x"


def test_only_old_scratch_files_are_removed(folder):
    now = 1_000_000_000.0
    FilesystemBank(str(folder)).close()
    for name, age in (("put-old", 25), ("put-young", 23), ("not-ours", 99)):
        (folder / SCRATCH / name).touch()
        os.utime(folder / SCRATCH / name, (now - age * 3600,) * 2)
    FilesystemBank(str(folder), clock=lambda: now).close()
    assert names(folder / SCRATCH) == ["not-ours", "put-young"]


def test_no_scratch_file_stays_behind(bank, folder):
    bank.put("one", [b"x"])
    bank.put("two", [b"x"], if_absent=True)
    with pytest.raises(TypeError):
        bank.put("three", ["text"])
    assert names(folder / SCRATCH) == []


@pytest.mark.parametrize(("number", "error"), [
    (errno.ENOSPC, BankFull), (errno.EDQUOT, BankFull), (errno.EIO, BankError), (errno.ESTALE, BankError),
])  # fmt: skip
def test_what_the_system_says_becomes_an_error_of_the_port(bank, folder, monkeypatch, number, error):
    bank.put("before", [b"x"])

    def fails(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filesystem.os, "fsync", fails)
    with pytest.raises(error, match=os.strerror(number)) as caught:
        bank.put("object", [b"y"])
    assert type(caught.value) is error
    assert names(folder / SCRATCH) == []
    assert names(folder) == ["before", MARKER, SCRATCH]


def test_folders_are_synced_before_what_lies_in_them_counts(bank, folder, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        filesystem.os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))
    )
    bank.put("a/b/object", [b"x"])
    scratch = synced.pop(2)
    assert scratch.startswith(f"{folder}/{SCRATCH}/put-")
    assert synced == [str(folder), f"{folder}/a", f"{folder}/a/b"]
    synced.clear()
    bank.put("a/b/object-2", [b"x"])
    assert [Path(path).name[:4] for path in synced] == ["put-", "b"]


def test_a_vanished_folder_heals_with_the_next_try(bank, folder):
    bank.put("a/one", [b"x"])
    (folder / "a" / "one").unlink()
    (folder / "a").rmdir()
    with pytest.raises(BankError, match="vanished"):
        bank.put("a/two", [b"x"])
    bank.put("a/two", [b"x"])
    assert bank.get("a/two", limit=9) == b"x"


def test_a_repeated_link_request_is_no_conflict(bank, monkeypatch):
    real = os.link

    def link_twice(*arguments, **named):
        real(*arguments, **named)
        real(*arguments, **named)

    monkeypatch.setattr(filesystem.os, "link", link_twice)
    bank.put("new", [b"x"], if_absent=True)
    assert bank.get("new", limit=9) == b"x"


def test_a_listing_holds_few_names_at_once(bank, monkeypatch):
    keys = sorted(f"d{number % 3}/{number:03d}" for number in range(100)) + [f"e{number:03d}" for number in range(50)]
    for key in keys:
        bank.put(key, [b""])
    monkeypatch.setattr(filesystem, "_PAGE", 7)
    assert [one.key for one in bank.list("")] == sorted(keys)
    assert [one.key for one in bank.list("e", after="e041")] == [f"e{number:03d}" for number in range(42, 50)]


def test_a_folder_that_is_replaced_is_refused_until_it_is_a_bank_again(tmp_path):
    place, aside = tmp_path / "bank", tmp_path / "aside"
    bank = FilesystemBank(str(place))
    bank.put("key", [b"content"])
    place.rename(aside)
    with pytest.raises(BankError, match="is not there any more"):
        bank.get("key", limit=100)
    place.mkdir()
    with pytest.raises(BankError, match="is not there any more"):
        bank.put("other", [b"lost"])
    assert list(place.iterdir()) == []
    place.rmdir()
    aside.rename(place)
    assert bank.get("key", limit=100) == b"content"
    place.rename(aside)
    FilesystemBank(str(place)).close()
    with pytest.raises(ObjectMissing):
        bank.get("key", limit=100)
    bank.close()
