"""Images: protect, lose, restore, compare."""

from __future__ import annotations

import hashlib

import pytest

IMAGE = "OS::Glance::Image"


def upload(cloud, data, **properties):
    body = {"name": "golden", "disk_format": "raw", "container_format": "bare", "visibility": "shared", "min_disk": 1}
    made = cloud.image.post("/images", json={**body, **properties}).json()
    cloud.image.put(f"/images/{made['id']}/file", data=data, headers={"Content-Type": "application/octet-stream"})
    return made["id"]


@pytest.fixture
def provider(service):
    ident = service.provider("karbor-image-protection-plugin")
    service.start()
    return ident


def test_an_image_comes_back_with_bytes_properties_and_members(client, provider, pattern, made, other_client):
    cloud, data = client.tenant.cloud, pattern("image", 5)
    ident = upload(cloud, data, hw_disk_bus="scsi", os_distro="test", my_own="value", tags=["a", "b"])
    cloud.image.add_member(ident, member_id=other_client.tenant.project_id)
    assert [one["id"] for one in client.instances(IMAGE) if one["name"] == "golden"] == [ident]
    plan = client.plan(provider, [{"id": ident, "type": IMAGE, "name": "golden"}])
    checkpoint = client.protect(provider, plan)
    assert client.verify(provider, checkpoint["id"])["status"] == "success"
    before = cloud.image.get(f"/images/{ident}").json()
    cloud.image.delete_image(ident)

    restore = client.restore(provider, checkpoint["id"])
    assert restore["status"] == "success", restore
    new = made(restore, IMAGE)
    after = cloud.image.get(f"/images/{new}").json()
    own = {"id", "created_at", "updated_at", "file", "self", "direct_url", "locations", "stores"}
    assert {k: v for k, v in after.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    assert [member.member_id for member in cloud.image.members(new)] == [other_client.tenant.project_id]
    content = cloud.image.get(f"/images/{new}/file").content
    assert hashlib.sha256(content).digest() == hashlib.sha256(data).digest()
    cloud.image.delete_image(new)
    client.delete(provider, checkpoint["id"])
