"""Banks on the testbed's Swift and S3 servers: the contract with and without faults, and who may read what."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import os
import secrets
import shutil
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
import yaml

from karbor.bank.stores.s3 import S3Bank
from karbor.bank.stores.swift import SwiftBank
from karbor.bank.vault.repository import Repository
from karbor.bank.vault.resource_vault import ResourceVault
from karbor.bank.vault.snapshot import Snapshot
from karbor.bank.wrappers import Retrying
from karbor.errors import BankForeign, BankFull, InvalidInput, ObjectExists
from karbor.sdk.bank import (
    FEATURE_IF_ABSENT,
    FEATURE_LIST_LAG,
    FEATURE_OBJECT_LOCK,
    FEATURE_READERS,
    FEATURE_VERSIONING,
)
from karbor.sdk.contract.bank import BankContract
from karbor.sdk.contract.faulty import Chances, FaultyBank
from karbor.sdk.local_image import FileImage

CEPH = {"endpoint": "http://127.0.0.1:7480", "access_key": "karbor", "secret_key": "testbed-karbor"}
S3API = {"endpoint": "http://127.0.0.1:8080", "access_key": "demo", "secret_key": "testbed-demo"}
PASSPHRASE = "cloud"
PAGE = 40


def swift_login():
    prefix = Path(os.environ.get("KARBOR_CLOUD", "/opt/karbor-cloud"))
    entry = yaml.safe_load((prefix / "etc" / "clouds.yaml").read_text())["clouds"]["service"]
    return {**entry["auth"], "region": entry["region_name"]}


class SwiftPlace:
    """Containers of one test, removed with it."""

    def __init__(self):
        self.options = {**swift_login(), "container": f"test-{secrets.token_hex(4)}"}
        self.opened = []

    def open(self):
        self.opened.append(SwiftBank(self.options, page=PAGE))
        return self.opened[-1]

    def clear(self):
        bank = self.open()
        name = self.options["container"]
        end = time.monotonic() + 60
        for container in [name, *bank._names(None, f"{name}.", "")]:
            while True:  # a listing may lag
                objects = bank._http.get(f"/{container}", params={"format": "json"}, raise_exc=False)
                paths = [f"/{container}/{found['name']}" for found in objects.json()] if objects.ok else []
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(lambda path: bank._http.delete(path, raise_exc=False), paths))
                status = bank._http.delete(f"/{container}", raise_exc=False).status_code
                if status in (204, 404):
                    break
                assert time.monotonic() < end, f"{container} cannot be removed: {status}"
        for one in self.opened:
            one.close()


class S3Place:
    """A bucket of one test, removed with it."""

    def __init__(self, options, *, lock=False):
        self.options = {**options, "bucket": f"test-{secrets.token_hex(4)}"}
        self.client = boto3.session.Session().client(
            "s3",
            endpoint_url=options["endpoint"],
            aws_access_key_id=options["access_key"],
            aws_secret_access_key=options["secret_key"],
            region_name="us-east-1",
        )
        self.opened = []
        if lock:
            self.client.create_bucket(Bucket=self.options["bucket"], ObjectLockEnabledForBucket=True)

    def open(self, **more):
        self.opened.append(S3Bank({**self.options, **more}, page=PAGE))
        return self.opened[-1]

    def clear(self):
        bucket = self.options["bucket"]
        with contextlib.suppress(self.client.exceptions.NoSuchBucket):
            for page in self.client.get_paginator("list_object_versions").paginate(Bucket=bucket):
                for found in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                    self.client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
            self.client.delete_bucket(Bucket=bucket)
        for one in (self.client, *self.opened):
            one.close()


class _OnTestbed(BankContract):
    many = 3 * PAGE

    def make_place(self):
        return SwiftPlace()

    @pytest.fixture(autouse=True)
    def _place(self, service):
        self.place = self.make_place()
        self.seeds = itertools.count()
        self.reader = None
        yield
        self.place.clear()

    def open_bank(self):
        return self.place.open()

    def open_reader(self):
        if self.reader is None:  # one for the whole test: a client of boto takes a second to make
            self.reader = self.open_bank()
        return self.reader


class TestSwift(_OnTestbed):
    pass


class TestCeph(_OnTestbed):
    def make_place(self):
        return S3Place(CEPH)


class TestCephWithVersions(_OnTestbed):
    many = 2

    def make_place(self):
        return S3Place(CEPH, lock=True)


class TestSwiftAsS3(_OnTestbed):
    def make_place(self):
        return S3Place(S3API)


class _Faults:
    many = 2 * PAGE

    def open_bank(self):
        chances = Chances(of={"fail": 0.05, "lost answer": 0.05, "throttle": 0.02, "delay": 0.02})
        faulty = FaultyBank(self.place.open(), chances=chances, seed=next(self.seeds))
        return Retrying(faulty, attempts=12, sleep=lambda seconds: None)


class TestSwiftWithFaults(_Faults, TestSwift):
    pass


class TestCephWithFaults(_Faults, TestCeph):
    pass


@pytest.fixture
def places(service):
    """Makes places of banks, and clears them."""
    with contextlib.ExitStack() as stack:

        def make(kind, *options, **more):
            place = kind(*options, **more)
            stack.callback(place.clear)
            return place

        yield make


def test_what_each_can_do(places):
    assert places(SwiftPlace).open().features == {FEATURE_LIST_LAG, FEATURE_READERS}
    assert places(S3Place, CEPH).open().features == {FEATURE_IF_ABSENT}
    locked = places(S3Place, CEPH, lock=True).open().features
    assert locked == {FEATURE_VERSIONING, FEATURE_OBJECT_LOCK}  # of two versions Ceph keeps both
    assert places(S3Place, S3API).open().features == {FEATURE_LIST_LAG}


def test_swift_lets_two_overlapping_conditional_puts_through(places):
    """Why the feature `if-absent` is not named; should Swift learn it, this test says so."""
    bank = places(SwiftPlace).open()
    bank.put("exists", [b"x"])
    with pytest.raises(ObjectExists):
        bank.put("exists", [b"y"], if_absent=True)
    endpoint = urlsplit(bank._http.get_endpoint())

    def begin(size):
        put = http.client.HTTPConnection(endpoint.hostname, endpoint.port, timeout=30)
        put.putrequest("PUT", f"{endpoint.path}/{bank._containers.bank}/raced")
        for name, value in (("X-Auth-Token", bank._http.get_token()), ("Content-Length", size), ("If-None-Match", "*")):
            put.putheader(name, str(value))
        put.putheader("Expect", "100-continue")
        put.endheaders()
        return put

    slow = begin(200_000)
    assert slow.sock.recv(1000).startswith(b"HTTP/1.1 100")  # it has looked
    bank.put("raced", [b"quick"], if_absent=True)
    slow.send(bytes(200_000))
    with slow.getresponse() as answer:
        assert answer.status == 201
    slow.close()


def test_a_bucket_with_something_else_is_refused(places):
    place = places(S3Place, CEPH)
    bank = place.open()
    place.client.delete_object(Bucket=place.options["bucket"], Key="~karbor-bank")
    bank.put("checkpoints/index.json", [b"{}"])
    with pytest.raises(BankForeign, match="not empty"):
        place.open()
    assert not list(place.open(prefix="below/it").list(""))


def test_two_banks_in_one_bucket_do_not_meet(places):
    place = places(S3Place, CEPH)
    one, other = place.open(prefix="one"), place.open(prefix="one-more")
    one.put("key", [b"1"])
    other.put("key", [b"2"])
    assert one.get("key", limit=9) == b"1"
    assert [found.key for found in other.list("")] == ["key"]


def test_swift_keys_lie_in_the_container_of_their_repository_and_are_listed_in_order(places):
    place = places(SwiftPlace)
    bank = place.open()
    keys = sorted(
        ["a", "p/a-g1/config", "p/a-g1/data/00", "p/a-g10/config", "p/a-g1x", "p/b-g1/config", "p-1/a-g1/x", "q"]
    )
    for key in reversed(keys):
        bank.put(key, [key.encode()])

    def listed(prefix, after=""):
        return [found.key for found in bank.list(prefix, after=after)]

    end = time.monotonic() + 60
    while listed("") != keys and time.monotonic() < end:
        time.sleep(0.5)
    for prefix in ("", "p", "p/", "p/a-g1", "p/a-g1/", "p/a-g1/d", "p/b", "r"):
        for after in ("", *keys, "p/a-g1/", "p/a-g", "zz"):
            assert listed(prefix, after) == [key for key in keys if key.startswith(prefix) and key > after]
    name = place.options["container"]
    assert sorted(bank._names(None, f"{name}.", "")) == sorted(
        [f"{name}.p-1.a-g1", f"{name}.p.a-g1", f"{name}.p.a-g10", f"{name}.p.b-g1"]
    )


def test_a_token_that_is_refused_is_renewed(places):
    bank = places(SwiftPlace).open()
    bank.put("small", [b"x"])
    tried = Retrying(bank, attempts=2, sleep=lambda seconds: None)
    big = os.urandom(16 << 20)
    for act in (lambda: bank.get("small", limit=1), lambda: tried.put("big", [big])):
        bank._http.session.auth.auth_ref._auth_token = "revoked"
        act()
    assert bank.get("big", limit=len(big)) == big


def test_a_wrong_password_is_no_reason_to_try_again(places):
    place = places(SwiftPlace)
    bank = SwiftBank({**place.options, "password": "wrong"})
    with pytest.raises(BankForeign, match="Keystone refuses") as refused:
        bank.get("x", limit=1)
    assert "wrong" not in str(refused.value)
    bank.close()
    with pytest.raises(BankForeign):
        S3Bank({**CEPH, "secret_key": "wrong"})


def test_a_quota_is_a_full_bank(places):
    bank = places(SwiftPlace).open()
    bank.put("first", [b"x"])
    bank._http.post(f"/{bank._containers.bank}", headers={"X-Container-Meta-Quota-Bytes": "1000"})
    with pytest.raises(BankFull):
        bank.put("second", [bytes(2000)])


def test_v1_names_its_options_otherwise(places):
    place = places(SwiftPlace)
    login = swift_login()
    bank = SwiftBank(
        {
            "swift_auth_url": login["auth_url"],
            "swift_user": login["username"],
            "swift_key": login["password"],
            "swift_tenant_name": login["project_name"],
            "bank_swift_object_container": place.options["container"],
            "lease_expire_window": "120",
        }
    )
    bank.put("x", [b"y"])
    assert place.open().get("x", limit=1) == b"y"
    bank.close()
    with pytest.raises(InvalidInput):
        SwiftBank({})


# --- repositories, and plain restic on them


class HostClock:
    def now(self):
        return datetime.now(UTC)

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        time.sleep(seconds)


@pytest.fixture
def written(tmp_path):
    """Write an image into a new repository at a prefix of a bank; its SHA-256."""

    def write(bank, prefix):
        repository = Repository.create(bank, prefix, PASSPHRASE, clock=HostClock())
        image = tmp_path / "disk.img"
        image.write_bytes(os.urandom(3 << 20) + bytes(2 << 20) + os.urandom(123_456))
        file = os.open(image, os.O_RDONLY)
        try:
            with repository.writer() as writer:
                tree = bytes.fromhex(ResourceVault(repository, writer).write_image(FileImage(file)).tree)
        finally:
            os.close(file)
        snapshot = Snapshot(time=datetime.now(UTC), tree=tree, paths=("/plan/p",), tags=("checkpoint=1",))
        repository.put_snapshot(*repository.prepare_snapshot(snapshot))
        return hashlib.sha256(image.read_bytes()).hexdigest()

    return write


@pytest.fixture
def restic(tmp_path):
    """Run plain restic on a repository as a tenant would; its process."""
    program = shutil.which("restic")
    assert program, "these tests need restic: apt install restic"

    def run(repository, *arguments, **environment):
        base = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "RESTIC_CACHE_DIR": str(tmp_path / secrets.token_hex(4)),
            "RESTIC_PASSWORD": PASSPHRASE,
            "RESTIC_REPOSITORY": repository,
        }
        return subprocess.run(
            [program, "--no-lock", *arguments], env=base | environment, capture_output=True, check=False, timeout=120
        )

    return run


def assert_reads(run, digest):
    """Restic finds no error, reading everything, and gives back the image."""
    checked = run("check", "--read-data")
    assert checked.returncode == 0, checked.stderr
    assert b"no errors were found" in checked.stdout
    assert hashlib.sha256(run("dump", "latest", "/data").stdout).hexdigest() == digest


def token_of(tenant, bank):
    """What plain restic needs of a tenant: his token, and where the service's account is."""
    return {"OS_STORAGE_URL": bank._http.get_endpoint(), "OS_AUTH_TOKEN": tenant.session.get_token()}


def test_a_tenant_reads_his_own_repository_with_his_own_token(places, written, restic, demo, second):
    bank = places(SwiftPlace).open()
    provider, project = str(uuid.uuid4()), demo.current_project_id
    prefix, other = f"{provider}/{project}-g1/", f"{provider}/{second.current_project_id}-g1/"
    digest = written(bank, prefix)
    where = bank.repository_location(prefix)

    assert_reads(lambda *arguments: restic(where, *arguments, **token_of(demo, bank)), digest)

    bank.put(f"{other}config", [b"x"])
    bank.put("log/1", [b"x"])
    base = bank._http.get_endpoint()
    alice, bob = ({"X-Auth-Token": one.session.get_token()} for one in (demo, second))
    own, foreign, shared = (f"{base}/{bank._containers.of_key(key).container}" for key in (prefix, other, "log/1"))

    def status(method, url, headers):
        return demo.session.request(url, method, headers=headers, authenticated=False, raise_exc=False).status_code

    assert [status("GET", url, alice) for url in (own, f"{own}/config")] == [200, 200]
    assert [status("GET", url, bob) for url in (foreign, f"{foreign}/config")] == [200, 200]
    for url in (own, f"{own}/config"):
        assert [status(method, url, bob) for method in ("GET", "HEAD", "PUT", "POST", "DELETE")] == [403] * 5
        assert [status(method, url, alice) for method in ("PUT", "POST", "DELETE")] == [403] * 3
        assert status("GET", url, {}) == 401
    for url in (foreign, f"{foreign}/config", shared, f"{shared}/log/1", base):
        assert [status(method, url, alice) for method in ("GET", "PUT", "DELETE")] == [403] * 3
    assert restic(where, "snapshots", **token_of(second, bank)).returncode != 0

    bank.set_readers(prefix, [])
    assert status("GET", f"{own}/config", alice) == 403
    bank.set_readers(prefix, [project])
    assert status("GET", f"{own}/config", alice) == 200
    with pytest.raises(InvalidInput):
        bank.set_readers(prefix, [".r"])
    with pytest.raises(InvalidInput):
        bank.set_readers("log/", [project])


@pytest.mark.parametrize("server", [CEPH, S3API], ids=["ceph", "swift"])
def test_a_repository_on_s3_is_read_by_its_keys_only(places, written, restic, server):
    bank = places(S3Place, server).open()
    prefix = f"{uuid.uuid4()}/{uuid.uuid4().hex}-g1/"
    digest = written(bank, prefix)
    where = f"{bank.location}/{prefix}"

    def keys(access):
        return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": f"testbed-{access}"}

    assert_reads(lambda *arguments: restic(where, *arguments, **keys(server["access_key"])), digest)
    assert restic(where, "snapshots", **keys("second")).returncode != 0


def test_a_bucket_of_another_is_refused(places):
    place = places(S3Place, CEPH)
    place.open()
    with pytest.raises(BankForeign):
        S3Bank({**place.options, "access_key": "second", "secret_key": "testbed-second"})


def test_a_bucket_that_begins_to_keep_versions_is_looked_at_again(places):
    place = places(S3Place, CEPH)
    assert FEATURE_IF_ABSENT in place.open().features
    place.client.put_bucket_versioning(Bucket=place.options["bucket"], VersioningConfiguration={"Status": "Enabled"})
    bank = place.open()
    assert bank.features == {FEATURE_VERSIONING}
    bank.put("key", [b"1"], if_absent=True)
    with pytest.raises(ObjectExists):
        bank.put("key", [b"2"], if_absent=True)
