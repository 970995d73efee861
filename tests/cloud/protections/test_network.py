"""Networks: protect, lose everything, restore, compare with what was there; a second restore changes nothing."""

from __future__ import annotations

import pytest

NETWORK = "OS::Neutron::Network"
PLUGIN = "karbor-network-protection-plugin"


class Topology:
    """Two networks, three subnets, a router with gateway and route, two groups that name each other, a spare port, a floating IP."""

    def __init__(self, cloud):
        self.neutron = net = cloud.network
        self.public = net.find_network("public")
        front = net.create_network(name="front", description="the first", mtu=1400)
        back = net.create_network(name="back")
        net.set_tags(front, ["blue"])
        first = net.create_subnet(
            network_id=front.id, name="front-4", ip_version=4, cidr="10.9.0.0/24", dns_nameservers=["10.9.0.53", "9.9.9.9"],
            allocation_pools=[{"start": "10.9.0.10", "end": "10.9.0.90"}],
            host_routes=[{"destination": "10.50.0.0/16", "nexthop": "10.9.0.2"}],
        )  # fmt: skip
        second = net.create_subnet(network_id=back.id, name="back-4", ip_version=4, cidr="10.8.0.0/24", gateway_ip=None)
        net.create_subnet(network_id=back.id, name="back-6", ip_version=6, cidr="fd00:8::/64", enable_dhcp=False)
        router = net.create_router(name="edge", external_gateway_info={"network_id": self.public.id})
        net.add_interface_to_router(router, subnet_id=first.id)
        inner = net.create_port(network_id=back.id, fixed_ips=[{"subnet_id": second.id, "ip_address": "10.8.0.7"}])
        net.add_interface_to_router(router, port_id=inner.id)
        net.update_router(router, routes=[{"destination": "10.60.0.0/16", "nexthop": "10.9.0.3"}])
        web = net.create_security_group(name="web", description="outside")
        data = net.create_security_group(name="data")
        self.rule(web, "ingress", protocol="tcp", port_range_min=80, port_range_max=80)
        self.rule(web, "ingress", protocol="tcp", port_range_min=22, port_range_max=22, remote_ip_prefix="10.9.0.0/24")
        self.rule(data, "ingress", protocol="tcp", port_range_min=5432, port_range_max=5432, remote_group_id=web.id)
        self.rule(web, "egress", remote_group_id=data.id)
        for rule in net.security_group_rules(security_group_id=data.id, direction="egress"):
            net.delete_security_group_rule(rule)
        spare = net.create_port(
            network_id=front.id, name="spare", security_group_ids=[web.id, data.id],
            fixed_ips=[{"subnet_id": first.id, "ip_address": "10.9.0.77"}],
            allowed_address_pairs=[{"ip_address": "10.9.0.78"}],
        )  # fmt: skip
        net.create_ip(floating_network_id=self.public.id, port_id=spare.id, description="front door")

    def rule(self, group, direction, **body):
        self.neutron.create_security_group_rule(
            security_group_id=group.id, direction=direction, ethertype="IPv4", **body
        )

    def lose(self):
        lose(self.neutron)


def lose(net):
    """Remove everything that the project has."""
    for floating in net.ips():
        net.delete_ip(floating)
    for router in net.routers():
        net.update_router(router, routes=[])
        for port in net.ports(device_id=router.id):
            net.remove_interface_from_router(router, port_id=port.id)
        net.delete_router(router)
    for port in net.ports():
        if not port.device_owner.startswith("network:"):
            net.delete_port(port)
    for network in own(net):
        net.delete_network(network)
    groups = [group for group in net.security_groups() if group.name != "default"]
    for group in groups:  # rules of one name the other
        for rule in group.security_group_rules:
            net.delete_security_group_rule(rule["id"])
    for group in groups:
        net.delete_security_group(group)


def own(net):
    return [network for network in net.networks() if not network.is_router_external]


def shape(net, public):
    """Everything by name, without what the cloud chooses."""
    networks, subnets = {n.id: n for n in [*own(net), public]}, {s.id: s for s in net.subnets()}
    groups, routers = {g.id: g for g in net.security_groups()}, {r.id: r for r in net.routers()}
    ports = {p.id: p for p in net.ports() if p.device_owner not in {"network:dhcp", "network:distributed"}}

    def rule(one):
        group = one["remote_group_id"]
        return str((one["direction"], one["ethertype"], one["protocol"], one["port_range_min"], one["port_range_max"],
                    one["remote_ip_prefix"], group and groups[group].name, one["description"]))  # fmt: skip

    def place(port):
        return sorted((subnets[ip["subnet_id"]].name, ip["ip_address"]) for ip in port.fixed_ips)

    return {
        "networks": {n.name: (n.description, n.mtu, n.tags, n.is_admin_state_up, n.is_port_security_enabled)
                     for n in own(net)},
        "subnets": {s.name: (networks[s.network_id].name, s.cidr, s.gateway_ip, s.allocation_pools, s.dns_nameservers,
                             s.host_routes, s.is_dhcp_enabled, s.ip_version, s.description) for s in subnets.values()},
        "routers": {r.name: (r.description, r.routes, networks[r.external_gateway_info["network_id"]].name,
                             r.external_gateway_info["enable_snat"]) for r in routers.values()},
        "interfaces": {(routers[p.device_id].name, *place(p)) for p in ports.values() if p.device_id in routers},
        "groups": {g.name: (g.description, sorted(map(rule, g.security_group_rules))) for g in groups.values()},
        "ports": {p.name: (networks[p.network_id].name, place(p), p.mac_address, p.description, p.is_port_security_enabled,
                           sorted(groups[g].name for g in p.security_group_ids), p.allowed_address_pairs)
                  for p in ports.values() if not p.device_owner},
        "floating": {f.description: f.port_id and ports[f.port_id].name for f in net.ips()},
    }  # fmt: skip


@pytest.fixture
def provider(service):
    ident = service.provider(PLUGIN)
    service.start()
    return ident


@pytest.fixture
def topology(client):
    made = Topology(client.tenant.cloud)
    yield made
    made.lose()


def protected(client, provider):
    (found,) = client.instances(NETWORK)
    assert (found["id"], found["name"]) == (client.tenant.project_id, "Network Topology")
    plan = client.plan(provider, [{"id": found["id"], "type": NETWORK, "name": found["name"]}])
    return client.protect(provider, plan)["id"]


def dry(client, provider, checkpoint, parameters):
    body = {"provider_id": provider, "checkpoint_id": checkpoint, "parameters": {NETWORK: parameters}}
    return client.call("POST", "/restores?dry_run=true", {"restore": body})["preflight"]["items"]


def refusals(items):
    return sorted(item["reason"] for item in items if item["action"] == "refuse")


def test_a_topology_comes_back_and_comes_back_once(client, provider, topology):
    net, public = client.tenant.cloud.network, topology.public
    before = shape(net, public)
    checkpoint = protected(client, provider)
    assert client.verify(provider, checkpoint)["status"] == "success"

    client.restore(provider, checkpoint)
    assert shape(net, public) == before, "a restore beside what is there changes nothing"
    old = {network.id for network in own(net)}
    topology.lose()
    client.restore(provider, checkpoint)
    assert shape(net, public) == before
    assert not old & {network.id for network in own(net)}
    client.delete(provider, checkpoint)


def test_only_what_is_missing_is_made(client, provider, topology):
    net, public = client.tenant.cloud.network, topology.public
    before = shape(net, public)
    checkpoint = protected(client, provider)
    kept = {row.id for row in [*net.routers(), *own(net)] if row.name != "back"}
    router = net.find_router("edge")
    for port in net.ports(device_id=router.id, network_id=net.find_network("back").id):
        net.remove_interface_from_router(router, port_id=port.id)
    net.delete_network(net.find_network("back"))
    net.delete_port(net.find_port("spare"))
    data = net.find_security_group("data")
    for rule in net.security_group_rules(remote_group_id=data.id):
        net.delete_security_group_rule(rule)
    net.delete_security_group(data)

    client.restore(provider, checkpoint)
    assert shape(net, public) == before
    assert kept <= {row.id for row in [*net.routers(), *own(net)]}
    client.delete(provider, checkpoint)


def test_what_is_in_the_way_is_found_before_anything_is_made(client, provider, topology):
    net = client.tenant.cloud.network
    checkpoint = protected(client, provider)
    router = net.find_router("edge")
    (port,) = net.ports(device_id=router.id, network_id=net.find_network("front").id)
    for floating in net.ips():
        net.delete_ip(floating)
    net.delete_port(net.find_port("spare"))
    net.update_router(router, routes=[])
    net.remove_interface_from_router(router, port_id=port.id)
    net.delete_network(net.find_network("front"))
    other = net.create_network(name="front")
    taken = net.create_subnet(network_id=other.id, name="taken", ip_version=4, cidr="10.9.0.128/25")
    net.add_interface_to_router(router, subnet_id=taken.id)
    before = shape(net, topology.public)

    found = refusals(dry(client, provider, checkpoint, {}))
    assert len(found) == 2
    assert "router edge: subnet front-4 10.9.0.0/24 overlaps taken 10.9.0.128/25" in found[0]
    assert "there is another network front" in found[1]
    assert "public_network_id" in str(refusals(dry(client, provider, checkpoint, {"public_network_id": "nowhere"})))
    moving = {"name_suffix": "-new", "cidr_map": "10.9.0.0/24=10.19.0.0/24"}
    items = dry(client, provider, checkpoint, moving)
    assert not refusals(items)
    assert {item["action"] for item in items} == {"create", "reuse"}
    assert shape(net, topology.public) == before, "a dry run changes nothing"

    client.restore(provider, checkpoint, {NETWORK: moving})
    after = shape(net, topology.public)
    assert after["subnets"]["front-4-new"][:6] == (
        "front-new", "10.19.0.0/24", "10.19.0.1", [{"start": "10.19.0.10", "end": "10.19.0.90"}],
        ["10.19.0.53", "9.9.9.9"], [{"destination": "10.50.0.0/16", "nexthop": "10.19.0.2"}],
    )  # fmt: skip
    assert after["ports"]["spare-new"][1] == [("front-4-new", "10.19.0.77")]
    assert after["ports"]["spare-new"][6] == [
        {"ip_address": "10.19.0.78", "mac_address": after["ports"]["spare-new"][2]}
    ]
    assert after["routers"]["edge"][1] == [{"destination": "10.60.0.0/16", "nexthop": "10.19.0.3"}]
    client.delete(provider, checkpoint)


def test_a_restore_that_fails_takes_back_what_it_made(client, service, topology):
    provider = service.provider(PLUGIN, "karbor-volume-snapshot-plugin")
    service.start()
    cloud, net = client.tenant.cloud, client.tenant.cloud.network
    volume = cloud.create_volume(size=1, name="data", wait=True)
    resources = [
        {"id": client.tenant.project_id, "type": NETWORK, "name": "all"},
        {"id": volume.id, "type": "OS::Cinder::Volume", "name": "data"},
    ]
    checkpoint = client.protect(provider, client.plan(provider, resources))["id"]
    topology.lose()
    before = shape(net, topology.public)
    for snapshot in cloud.block_storage.snapshots():  # so that the volume fails, after the networks have been made
        cloud.delete_volume_snapshot(snapshot.id, wait=True)
    body = {"provider_id": provider, "checkpoint_id": checkpoint, "parameters": {}, "undo": True}
    made = client.call("POST", "/restores", {"restore": body})["restore"]["id"]
    seen = set()

    def look():
        seen.update(network.name for network in own(net))
        return client.call("GET", f"/restores/{made}")["restore"]

    assert client.until(look)["status"] == "fail"
    assert seen == {"front", "back"}, "they were made"
    assert shape(net, topology.public) == before
    cloud.delete_volume(volume.id, wait=True)
    client.delete(provider, checkpoint)


def test_one_network_of_many(client, provider, topology):
    net, public = client.tenant.cloud.network, topology.public
    before, front = shape(net, public), net.find_network("front")
    plan = client.plan(provider, [{"id": front.id, "type": NETWORK, "name": "front"}])
    checkpoint = client.protect(provider, plan)["id"]
    topology.lose()
    client.restore(provider, checkpoint)
    after = shape(net, public)
    assert {*after["networks"]} == {"front"}
    assert after["interfaces"] == {("edge", ("front-4", "10.9.0.1"))}
    assert {name: after[name] for name in ("groups", "ports", "floating")} == {
        name: before[name] for name in ("groups", "ports", "floating")
    }
    client.delete(provider, checkpoint)


@pytest.mark.timeout(600)
def test_a_server_comes_back_in_its_network(client, service, topology):
    plugins = (
        "karbor-project-protection-plugin",
        "karbor-server-protection-plugin",
        "karbor-image-protection-plugin",
        PLUGIN,
    )
    provider = service.provider(*plugins)
    service.start()
    cloud, net, project = client.tenant.cloud, client.tenant.cloud.network, client.tenant.project_id
    front = net.find_network("front")
    web = net.find_security_group("web")
    port = net.create_port(network_id=front.id, name="server", security_group_ids=[web.id])
    net.create_ip(floating_network_id=topology.public.id, port_id=port.id, description="the server's")
    flavor, image = cloud.compute.find_flavor("m1.micro"), cloud.image.find_image("guest")
    server = cloud.compute.create_server(
        name="app", flavor_id=flavor.id, image_id=image.id, networks=[{"port": port.id}]
    )
    cloud.compute.wait_for_server(server, wait=240)
    checkpoint = client.protect(
        provider, client.plan(provider, [{"id": project, "type": "OS::Keystone::Project", "name": "all"}])
    )
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, wait=120)
    topology.lose()

    client.restore(provider, checkpoint["id"])
    (new,) = cloud.compute.servers()
    (found,) = net.ports(device_id=new.id)
    assert found.network_id == net.find_network("front").id != front.id
    assert (found.mac_address, found.fixed_ips[0]["ip_address"]) == (port.mac_address, port.fixed_ips[0]["ip_address"])
    assert found.security_group_ids == [net.find_security_group("web").id]
    assert {f.description: f.port_id for f in net.ips()}["the server's"] == found.id
    cloud.compute.delete_server(new)
    cloud.compute.wait_for_delete(new, wait=120)
    client.delete(provider, checkpoint["id"])
