"""Shares: snapshot, change, restore to a new share, compare bytes and access; delete leaves nothing."""

from __future__ import annotations

import os
import subprocess

import pytest

SHARE = "OS::Manila::Share"
_FILE = """
import sys, cephfs
fs = cephfs.LibCephFS(conffile=sys.argv[1] + "/etc/ceph/ceph.conf", auth_id="admin")
fs.conf_set("keyring", sys.argv[1] + "/etc/ceph/ceph.client.admin.keyring")
fs.mount(filesystem_name=sys.argv[2].encode())
name = sys.argv[4].encode() + b"/file"
if sys.argv[3] == "write":
    fd = fs.open(name, "w", 0o644)
    fs.write(fd, sys.stdin.buffer.read(), 0)
    fs.fsync(fd, 0)
else:
    fd = fs.open(name, "r")
    sys.stdout.buffer.write(fs.read(fd, 0, 16 << 20))
fs.close(fd)
fs.shutdown()
"""


def file_bytes(shares, action, share, data=b""):
    """A file in the share, as Ceph has it."""
    prefix = os.environ.get("KARBOR_CLOUD", "/opt/karbor-cloud")
    locations = shares.get(f"/shares/{share}/export_locations", microversion="2.45").json()["export_locations"]
    folder = "/" + locations[0]["path"].split(":/", 1)[1]
    command = [f"{prefix}/venv/bin/python", "-c", _FILE, prefix, "cephfs", action, folder]
    return subprocess.run(command, input=data, check=True, capture_output=True, timeout=60).stdout


def wait(shares, share):
    return shares.wait_for_status(shares.get_share(share), "available", interval=1, wait=120)


@pytest.fixture
def share(client, pattern):
    shares = client.tenant.cloud.shared_file_system
    made = shares.create_share(
        share_protocol="CEPHFS", size=1, name="home", description="known bytes", share_type="cephfs",
        metadata={"tier": "gold"},
    )  # fmt: skip
    wait(shares, made.id)
    rule = {"access_type": "cephx", "access_to": f"user-{made.id[:8]}", "access_level": "ro"}
    shares.post(f"/shares/{made.id}/action", json={"allow_access": rule}, microversion="2.45").raise_for_status()
    file_bytes(shares, "write", made.id, pattern("share", 3))
    yield made.id
    for left in shares.shares():
        shares.delete_share(left)


def look(shares, ident):
    found = shares.get(f"/shares/{ident}", microversion="2.45").json()["share"]
    rules = shares.get(f"/share-access-rules?share_id={ident}", microversion="2.45").json()["access_list"]
    kept = {name: found[name] for name in ("name", "description", "size", "share_proto", "share_type_name", "status")}
    access = [(rule["access_type"], rule["access_to"], rule["access_level"]) for rule in rules]
    return kept, {key: value for key, value in found["metadata"].items() if key == "tier"}, access


def test_a_share_comes_back_from_its_snapshot(client, service, share, pattern, made):
    provider = service.provider("karbor-share-protection-plugin")
    service.start()
    shares = client.tenant.cloud.shared_file_system
    before = look(shares, share)
    (found,) = client.instances(SHARE)
    assert (found["id"], found["name"]) == (share, "home")
    plan = client.plan(provider, [{"id": share, "type": SHARE, "name": "home"}], {SHARE: {"snapshot_name": "nightly"}})
    checkpoint = client.protect(provider, plan)
    assert [row.name for row in shares.share_snapshots()] == ["nightly"]
    refused = client.verify(provider, checkpoint["id"])
    assert refused["status"] == "fail"
    assert "not verifiable" in str(refused["resources_reason"])
    file_bytes(shares, "write", share, b"overwritten")

    new = made(client.restore(provider, checkpoint["id"]), SHARE)
    assert new != share
    assert look(shares, new) == before
    same = file_bytes(shares, "read", new) == pattern("share", 3)
    assert same, "the new share has other bytes"
    shares.delete_share(new)
    client.delete(provider, checkpoint["id"])
    assert list(shares.share_snapshots()) == []
