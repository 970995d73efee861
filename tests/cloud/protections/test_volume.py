"""Volumes by each route: protect, lose, restore, compare bytes and properties; delete leaves nothing."""

from __future__ import annotations

import pytest

VOLUME = "OS::Cinder::Volume"
SAME = ("name", "description", "size", "volume_type", "availability_zone", "is_bootable")


@pytest.fixture
def volume(client, volume_bytes, pattern):
    """A volume of one GiB with known bytes at both ends."""
    cloud = client.tenant.cloud
    made = cloud.create_volume(size=1, name="data", description="known bytes", metadata={"tier": "gold"}, wait=True)
    volume_bytes("write", made.id, 0, data=pattern("front", 4))
    volume_bytes("write", made.id, 1000 << 20, data=pattern("back", 2))
    return cloud.block_storage.get_volume(made.id)


def resource(volume):
    return {"id": volume.id, "type": VOLUME, "name": volume.name}


def check(client, volume_bytes, volume, wanted_bytes, restore, made):
    assert restore["status"] == "success", restore
    storage = client.tenant.cloud.block_storage
    new = storage.get_volume(made(restore, VOLUME))
    assert new.status == "available"
    assert {name: getattr(new, name) for name in SAME} == {name: getattr(volume, name) for name in SAME}
    assert {key: value for key, value in new.metadata.items() if key != "karbor"} == volume.metadata
    assert (new.volume_image_metadata or {}) == (volume.volume_image_metadata or {})
    assert volume_bytes("sha256", new.id) == wanted_bytes
    client.tenant.cloud.delete_volume(new.id, wait=True)


def test_by_an_image_into_the_vault(client, service, volume, volume_bytes, made):
    provider = service.provider("karbor-volume-glance-plugin")
    service.start()
    wanted = volume_bytes("sha256", volume.id)
    checkpoint = client.protect(provider, client.plan(provider, [resource(volume)]))
    storage = client.tenant.cloud.block_storage
    assert [each.id for each in storage.volumes()] == [volume.id], "the temporaries are gone"
    assert list(storage.snapshots()) == []
    assert client.verify(provider, checkpoint["id"])["status"] == "success"
    client.tenant.cloud.delete_volume(volume.id, wait=True)
    check(client, volume_bytes, volume, wanted, client.restore(provider, checkpoint["id"]), made)
    client.delete(provider, checkpoint["id"])


def test_by_a_snapshot(client, service, volume, volume_bytes, made):
    provider = service.provider("karbor-volume-snapshot-plugin")
    service.start()
    wanted = volume_bytes("sha256", volume.id)
    plan = client.plan(provider, [resource(volume)], {VOLUME: {"snapshot_name": "nightly", "force": "True"}})
    checkpoint = client.protect(provider, plan)
    assert [each.name for each in client.tenant.cloud.block_storage.snapshots()] == ["nightly"]
    refused = client.verify(provider, checkpoint["id"])
    assert refused["status"] == "fail"
    assert "not verifiable" in str(refused["resources_reason"])
    volume_bytes("write", volume.id, 0, data=b"overwritten")
    check(client, volume_bytes, volume, wanted, client.restore(provider, checkpoint["id"]), made)
    client.delete(provider, checkpoint["id"])
    assert list(client.tenant.cloud.block_storage.snapshots()) == []
    client.tenant.cloud.delete_volume(volume.id, wait=True)


def test_by_a_backup_and_its_increment(client, service, volume, volume_bytes, made):
    provider = service.provider("karbor-volume-protection-plugin")
    service.start()
    cloud = client.tenant.cloud
    plan = client.plan(provider, [resource(volume)], {VOLUME: {"backup_mode": "incremental", "backup_name": "chain"}})
    first = client.protect(provider, plan)  # full: there is nothing to build on
    volume_bytes("write", volume.id, 1 << 20, data=b"changed")
    wanted = volume_bytes("sha256", volume.id)
    second = client.protect(provider, plan)
    backups = {each.is_incremental: each for each in cloud.block_storage.backups()}
    assert sorted(backups) == [False, True]
    client.delete(provider, first["id"])
    assert len(list(cloud.block_storage.backups())) == 2, "the base stays under its increment"
    cloud.delete_volume(volume.id, wait=True)
    check(client, volume_bytes, volume, wanted, client.restore(provider, second["id"]), made)
    client.delete(provider, second["id"])
    assert list(cloud.block_storage.backups()) == []
    for container in cloud.object_store.containers():  # Cinder's own, in the tenant's account
        for item in cloud.object_store.objects(container.name):
            raise AssertionError(f"{container.name}/{item.name} is left")
        cloud.object_store.delete_container(container.name)
