"""A whole project: everything in it is found, protected and restored in one run."""

from __future__ import annotations

PROJECT = "OS::Keystone::Project"
PLUGINS = (
    "karbor-project-protection-plugin",
    "karbor-server-protection-plugin",
    "karbor-volume-glance-plugin",
    "karbor-image-protection-plugin",
    "karbor-noop-protection-plugin",  # for the networks
)


def test_a_project_comes_back(client, service, volume_bytes, pattern):
    provider = service.provider(*reversed(PLUGINS))
    service.start()
    cloud, project = client.tenant.cloud, client.tenant.project_id
    volume = cloud.create_volume(size=1, name="loose", wait=True)
    volume_bytes("write", volume.id, 0, data=pattern("loose", 2))
    image = cloud.image.post("/images", json={"name": "own", "disk_format": "raw", "container_format": "bare"}).json()
    content = {"Content-Type": "application/octet-stream"}
    cloud.image.put(f"/images/{image['id']}/file", data=pattern("own", 1), headers=content)
    (found,) = client.instances(PROJECT)
    kinds = {one["type"] for one in found["dependent_resources"]}
    assert kinds >= {"OS::Cinder::Volume", "OS::Glance::Image"}
    checkpoint = client.protect(provider, client.plan(provider, [{"id": project, "type": PROJECT, "name": "all"}]))
    wanted = volume_bytes("sha256", volume.id)
    cloud.delete_volume(volume.id, wait=True)
    cloud.image.delete_image(image["id"])

    restore = client.restore(provider, checkpoint["id"])
    new = {key.split("#")[0]: key.split("#")[1] for key in restore["resources_status"]}
    assert new[PROJECT] == project
    assert volume_bytes("sha256", new["OS::Cinder::Volume"]) == wanted
    assert cloud.image.get(f"/images/{new['OS::Glance::Image']}/file").content == pattern("own", 1)
    cloud.delete_volume(new["OS::Cinder::Volume"], wait=True)
    cloud.image.delete_image(new["OS::Glance::Image"])
    client.delete(provider, checkpoint["id"])
