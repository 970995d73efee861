"""The testbed's own promises to the other tests of this folder: tenants are apart, and leftovers are found."""

from __future__ import annotations

import pytest


def test_a_tenant_sees_only_his_own_volumes(new_tenant, volume_bytes):
    owner, stranger = new_tenant(), new_tenant()
    volume = owner.cloud.create_volume(size=1, name="owned", wait=True)
    volume_bytes("write", volume.id, data=b"known bytes")
    assert volume_bytes("read", volume.id, 0, 11) == b"known bytes"
    assert [found.id for found in owner.cloud.block_storage.volumes()] == [volume.id]
    assert list(stranger.cloud.block_storage.volumes()) == []
    owner.cloud.delete_volume(volume.id, wait=True)


def test_the_audit_names_a_leftover(demo, leftovers):
    network = demo.network.create_network(name="left-behind")
    try:
        assert leftovers() == {("network", network.id, "left-behind")}
    finally:
        demo.network.delete_network(network)
    assert leftovers() == set()


@pytest.mark.parametrize("name", ["admin", "service", "demo", "second"])
def test_every_user_of_clouds_yaml_has_a_token(name, request):
    assert request.getfixturevalue(name).auth_token
