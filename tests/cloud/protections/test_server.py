"""Servers: protect with everything they have, lose, restore, compare; the guest sees the same bytes."""

from __future__ import annotations

import base64
import os
import subprocess

import pytest

SERVER = "OS::Nova::Server"
SHELL_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO4Y2CLhSyMX9Bm2N0bqZcWGLY2L5jhXv3FhEUyOYTt1 test"


class Net:
    """A network with a subnet and a security group of the tenant's."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.network = cloud.network.create_network(name="net")
        self.subnet = cloud.network.create_subnet(network_id=self.network.id, cidr="10.9.0.0/24", ip_version=4)
        self.group = cloud.network.create_security_group(name="web")
        self.port = cloud.network.create_port(
            network_id=self.network.id,
            name="front",
            fixed_ips=[{"subnet_id": self.subnet.id, "ip_address": "10.9.0.77"}],
            security_group_ids=[self.group.id],
        )

    def close(self):
        for port in self.cloud.network.ports(network_id=self.network.id):
            if not port.device_owner.startswith("network:"):
                self.cloud.network.delete_port(port)
        self.cloud.network.delete_subnet(self.subnet)
        self.cloud.network.delete_network(self.network)
        self.cloud.network.delete_security_group(self.group)


@pytest.fixture
def net(client):
    made = Net(client.tenant.cloud)
    yield made
    made.close()


def boot(cloud, net, **body):
    flavor = cloud.compute.find_flavor("m1.micro")
    cloud.compute.create_keypair(name="mine", public_key=SHELL_KEY)
    server = cloud.compute.create_server(
        name="app",
        flavor_id=flavor.id,
        networks=[{"port": net.port.id}],
        key_name="mine",
        metadata={"tier": "web"},
        tags=["blue"],
        description="an application",
        config_drive=True,
        user_data=base64.b64encode(b"#!/bin/sh\ntrue\n").decode(),
        **body,
    )
    return cloud.compute.wait_for_server(server, wait=300)


def lose(cloud, server, *volumes):
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, wait=120)
    for port in cloud.network.ports(name="front"):
        cloud.network.delete_port(port)
    cloud.compute.delete_keypair("mine")
    for volume in volumes:
        cloud.delete_volume(volume, wait=True)


def check(cloud, net, server, new):
    assert (new.name, new.description, new.metadata, new.key_name) == ("app", "an application", {"tier": "web"}, "mine")
    assert [tag for tag in new.tags if not tag.startswith("karbor-")] == ["blue"]
    assert new.flavor.original_name == "m1.micro"
    assert bool(new.has_config_drive)
    (port,) = cloud.network.ports(device_id=new.id)
    assert port.mac_address == net.port.mac_address
    assert [ip["ip_address"] for ip in port.fixed_ips] == ["10.9.0.77"]
    assert port.security_group_ids == [net.group.id]


_ROOT = """
import os, sys, rados, rbd
conf = os.environ["KARBOR_CLOUD"] + "/etc/ceph/ceph.conf"
with rados.Rados(conffile=conf, rados_id="cinder") as cluster, cluster.open_ioctx("vms") as pool:
    with rbd.Image(pool, sys.argv[2] + "_disk") as image:
        if sys.argv[1] == "write":
            image.write(sys.stdin.buffer.read(), 900 << 20)
            image.flush()
        else:
            sys.stdout.buffer.write(image.read(900 << 20, 4 << 20))
"""


def root_bytes(action, server_id, data=b""):
    """4 MiB of the root disk where no guest writes: a guest that boots changes the rest."""
    prefix = os.environ.get("KARBOR_CLOUD", "/opt/karbor-cloud")
    command = [f"{prefix}/venv/bin/python", "-c", _ROOT, action, server_id]
    environment = {**os.environ, "KARBOR_CLOUD": prefix}
    return subprocess.run(command, input=data, check=True, capture_output=True, env=environment).stdout


def test_from_an_image_and_switched_off_with_a_volume(client, service, net, volume_bytes, pattern, made):
    provider = service.provider(
        "karbor-server-protection-plugin", "karbor-image-protection-plugin", "karbor-volume-glance-plugin"
    )
    service.start()
    cloud = client.tenant.cloud
    volume = cloud.create_volume(size=1, name="attached", wait=True)
    volume_bytes("write", volume.id, 0, data=pattern("attached", 3))
    server = boot(cloud, net, image_id=cloud.image.find_image("guest").id)
    cloud.attach_volume(server, volume, wait=True)
    cloud.compute.stop_server(server)
    cloud.compute.wait_for_server(server, status="SHUTOFF", wait=120)
    root_bytes("write", server.id, pattern("root", 4))
    data = volume_bytes("sha256", volume.id)

    checkpoint = client.protect(provider, client.plan(provider, [{"id": server.id, "type": SERVER, "name": "app"}]))
    assert client.verify(provider, checkpoint["id"])["status"] == "success"
    lose(cloud, server, volume.id)
    restore = client.restore(provider, checkpoint["id"])
    new = cloud.compute.get_server(made(restore, SERVER))
    assert new.status == "SHUTOFF"
    check(cloud, net, server, new)
    (attached,) = cloud.compute.volume_attachments(new)
    assert volume_bytes("sha256", attached.volume_id) == data
    same = root_bytes("read", new.id) == pattern("root", 4)
    assert same, "the root disk has other bytes"
    lose(cloud, new, attached.volume_id)
    client.delete(provider, checkpoint["id"])


def test_from_a_volume_and_running(client, service, net, volume_bytes, made):
    provider = service.provider("karbor-server-protection-plugin", "karbor-volume-glance-plugin")
    service.start()
    cloud = client.tenant.cloud
    root = cloud.create_volume(size=1, name="root", image=cloud.image.find_image("guest"), bootable=True, wait=True)
    disk = {"boot_index": 0, "uuid": root.id, "source_type": "volume", "destination_type": "volume"}
    server = boot(cloud, net, block_device_mapping=[disk])
    checkpoint = client.protect(provider, client.plan(provider, [{"id": server.id, "type": SERVER, "name": "app"}]))
    lose(cloud, server, root.id)
    restore = client.restore(provider, checkpoint["id"])
    new = cloud.compute.get_server(made(restore, SERVER))
    assert new.status == "ACTIVE"
    check(cloud, net, server, new)
    (attached,) = cloud.compute.volume_attachments(new)
    assert cloud.block_storage.get_volume(attached.volume_id).is_bootable
    lose(cloud, new, attached.volume_id)
    client.delete(provider, checkpoint["id"])
