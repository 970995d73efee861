"""A real repository in a folder, plain restic on it, and trees that have everything a file system can hold."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from karbor.bank.stores.filesystem import FilesystemBank
from karbor.bank.vault.files_read import restore_tree
from karbor.bank.vault.files_write import write_tree
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.snapshot import Snapshot
from karbor.sdk.vault import RestoreOptions, TreeOptions
from karbor.system import SystemClock

PREFIX = "provider/project-g1/"
PASSPHRASE = "of the tests"
TREE = TreeOptions()
AS_IT_WAS = RestoreOptions(owners=True, set_id_bits=True, devices=True, security_attributes=True)


class Trees:
    """Protects and restores directories in one repository."""

    def __init__(self, folder: Path) -> None:
        self.bank = FilesystemBank(str(folder))
        self.repository = Repository.create(self.bank, PREFIX, PASSPHRASE, clock=SystemClock())

    def protect(self, source, options=TREE, **named):
        with opened(source) as root, self.repository.writer() as writer:
            return write_tree(writer, root, options, **named)

    def restore(self, node, target, options=AS_IT_WAS, **named):
        Path(target).mkdir(exist_ok=True)
        with opened(target) as root:
            return restore_tree(self.repository, node, root, options, **named)

    def commit(self, node, name="/data"):
        """A snapshot of one protected directory."""
        with self.repository.writer() as writer:
            tree = writer.save_tree([node])
        snapshot = Snapshot(time=SystemClock().now(), tree=tree, paths=(name,))
        self.repository.put_snapshot(*self.repository.prepare_snapshot(snapshot))

    def restic(self, *arguments):
        command = ["restic", "-r", f"{self.bank.location}/{PREFIX}", "--no-cache", *arguments]
        environment = {"RESTIC_PASSWORD": PASSPHRASE, "PATH": os.environ["PATH"]}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def opened(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def trees(tmp_path):
    trees = Trees(tmp_path / "bank")
    yield trees
    trees.bank.close()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    return path


def everything(root: Path) -> None:
    """Fill a directory with one of each thing that a tree may hold (sockets left out)."""
    (root / "empty").touch()
    (root / "small").write_bytes(b"small\n" * 100)
    (root / "exactly-one-blob").write_bytes(os.urandom(1 << 20))
    (root / "large").write_bytes(os.urandom((1 << 20) + 1) + b"text " * 1_000_000)
    with (root / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(40 << 20)
        file.write(os.urandom(3 << 20))
        file.truncate(100 << 20)
    with (root / "hole-only").open("wb") as file:
        file.truncate(9 << 20)
    with (root / "small-sparse").open("wb") as file:
        file.seek(500_000)
        file.write(b"end")
    deep = root / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    (root / "empty-directory").mkdir()
    os.link(root / "small", deep / "linked")
    os.link(root / "large", root / "large-too")
    os.link(root / "small", root / "small-too")
    (root / "link").symlink_to("small")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to(b"\xff nowhere".decode("utf-8", "surrogateescape"))
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    for name in (b"\xff\xfe", b"new\nline", b'quote"back\\slash', "ünïcödé \u2028 <&>".encode(), b"-rf *", b" ", b"~x"):
        (root / os.fsdecode(name)).write_bytes(name)
    (root / "setuid").touch()
    (root / "setuid").chmod(0o4755)
    (root / "setgid").mkdir()
    (root / "setgid").chmod(0o3775)
    (root / "secret").touch(0o000)
    os.chown(root / "secret", 1234, 5678)
    os.setxattr(root / "small", "user.colour", b"blue\x00\xff")
    os.setxattr(root / "a", "user.on-directory", b"")
    os.setxattr(root / "large", "trusted.of-karbor", b"t" * 300)
    subprocess.run(["setfacl", "-m", "u:1234:r,g:5678:rw", root / "exactly-one-blob"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", root / "empty-directory"], check=True)
    os.utime(root / "small", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "link", ns=(1, 1_111_111_111_111_111_111), follow_symlinks=False)
    os.utime(root / "empty", ns=(1, -1_000_000_001))
    for number, path in enumerate((deep, deep.parent, root / "a", root)):
        os.utime(path, ns=(1, 1_500_000_000_000_000_000 + number))


def described(root: Path, *, holes: bool = True) -> dict[str, tuple]:
    """Everything that must be the same after a restore, by relative path."""
    links: dict[tuple[int, int], str] = {}
    paths = [Path(folder) / name for folder, *names in os.walk(root) for name in ["", *sorted(names[0] + names[1])]]
    return {str(path.relative_to(root)): _one(path, links, holes=holes) for path in dict.fromkeys(paths)}


def _one(path: Path, links: dict, *, holes: bool) -> tuple:
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        content = path.read_bytes(), links.setdefault((status.st_dev, status.st_ino), path.name)
        if holes and status.st_size > 4 << 20:
            content = (*content, status.st_blocks * 512 < status.st_size)
    elif kind == stat.S_IFLNK:
        content = path.readlink()
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    return (
        status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev, attributes, content,
    )  # fmt: skip


def same(left: Path, right: Path, **named) -> None:
    """Assert that two trees are the same, with the first few differences."""
    one, other = described(left, **named), described(right, **named)
    differences = [path for path in sorted(one.keys() | other.keys()) if one.get(path) != other.get(path)]
    assert not differences, [(path, _short(one.get(path)), _short(other.get(path))) for path in differences[:5]]


def _short(entry):
    return repr(entry)[:300]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices, owners and trusted attributes")
needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
