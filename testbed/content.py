"""What a fresh cloud has to contain: `content.py identity` (needs Keystone alone) and `content.py resources` (the rest).

Both may be repeated. `resources` ends when every agent (volume, backup, compute, share) has reported since it started.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import openstack

PASSWORD = os.environ["PASSWORD"]
LOOPBACK = "http://127.0.0.1:"
CATALOGUE = {  # service: (type, address)
    "barbican": ("key-manager", "9311"),
    "cinder": ("block-storage", "8776/v3"),
    "cinderv3": ("volumev3", "8776/v3"),
    "freezer": ("backup", "9090"),
    "glance": ("image", "9292"),
    "heat": ("orchestration", "8004/v1/%(tenant_id)s"),
    "karbor": ("data-protect", "8799/v1/%(tenant_id)s"),
    "manila": ("shared-file-system", "8786/v2"),
    "manilav2": ("sharev2", "8786/v2"),
    "neutron": ("network", "9696"),
    "nova": ("compute", "8774/v2.1"),
    "placement": ("placement", "8778"),
    "swift": ("object-store", "8080/v1/AUTH_%(tenant_id)s"),
    "trove": ("database", "8779/v1.0/%(tenant_id)s"),
}
SERVICE_USERS = sorted(set(CATALOGUE) - {"cinderv3", "manilav2"})
TENANTS = {"alice": "demo", "bob": "second"}
ROLES = ("service", "ResellerAdmin", "swiftoperator", "creator", "heat_stack_owner", "heat_stack_user")
FLAVORS = {
    "m1.nano": (64, 0),
    "m1.micro": (128, 1),
    "m1.tiny": (256, 1),
    "m1.small": (512, 2),
}  # MiB of memory, GiB of disk
SHARE_TYPES = {"cephfs": "CEPHFS", "dummy": "DUMMY"}


def identity(cloud: openstack.connection.Connection) -> None:
    """Services with endpoints, service users, roles, two tenants with one user each."""
    keystone = cloud.identity
    existing = {service.name: service for service in keystone.services()}
    for name, (kind, address) in CATALOGUE.items():
        if name not in existing:
            service = keystone.create_service(name=name, type=kind)
            for interface in ("public", "internal", "admin"):
                keystone.create_endpoint(
                    service_id=service.id, interface=interface, url=LOOPBACK + address, region_id="RegionOne"
                )
    roles = {role.name: role for role in keystone.roles()}
    roles |= {name: keystone.create_role(name=name) for name in ROLES if name not in roles}
    projects = {project.name: project for project in keystone.projects()}
    for name in ("service", *TENANTS.values()):
        if name not in projects:
            projects[name] = keystone.create_project(name=name, domain_id="default")
    users = {user.name: user for user in keystone.users(domain_id="default")}

    def grant(user: str, project: str, *names: str) -> None:
        if user not in users:
            home = projects[project].id
            users[user] = keystone.create_user(
                name=user, password=PASSWORD, domain_id="default", default_project_id=home
            )
        for name in names:
            keystone.assign_project_role_to_user(projects[project], users[user], roles[name])

    for user in SERVICE_USERS:
        grant(user, "service", "admin", "service")
    for user, project in TENANTS.items():
        grant(user, project, "member", "reader", "creator", "heat_stack_owner")
        ec2_key(cloud, users[user].id, projects[project].id, project)
    for project in ("admin", *TENANTS.values()):
        grant("admin", project, "admin", "member")
    heat = keystone.find_domain("heat") or keystone.create_domain(name="heat", description="users of stacks")
    owner = keystone.find_user("heat_domain_admin", domain_id=heat.id)
    owner = owner or keystone.create_user(name="heat_domain_admin", password=PASSWORD, domain_id=heat.id)
    keystone.assign_domain_role_to_user(heat, owner, roles["admin"])


def ec2_key(cloud: openstack.connection.Connection, user: str, project: str, access: str) -> None:
    """The S3 key of a tenant for Swift's s3api: access key = project name, secret = PASSWORD-project name."""
    blob = json.dumps({"access": access, "secret": f"{PASSWORD}-{access}"})
    if not list(cloud.identity.credentials(user_id=user, type="ec2")):
        cloud.identity.create_credential(type="ec2", user_id=user, project_id=project, blob=blob)


def resources(cloud: openstack.connection.Connection) -> None:
    """Volume type, flavors, the provider network of floating IPs, the guest's image, share types."""
    if not cloud.block_storage.find_type("ceph"):
        cloud.block_storage.create_type(name="ceph", extra_specs={"volume_backend_name": "ceph"}, is_public=True)
    for name, (ram, disk) in FLAVORS.items():
        if not cloud.compute.find_flavor(name):
            cloud.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=disk)
    if not cloud.network.find_network("public"):
        public = cloud.network.create_network(
            name="public", is_router_external=True, provider_network_type="flat", provider_physical_network="physnet1"
        )
        cloud.network.create_subnet(
            name="public-v4", network_id=public.id, cidr="172.24.4.0/24", ip_version=4, gateway_ip="172.24.4.1",
            is_dhcp_enabled=False, allocation_pools=[{"start": "172.24.4.10", "end": "172.24.4.250"}],
        )  # fmt: skip
    if not cloud.image.find_image("guest"):
        guest = str(Path(os.environ["CACHE"], "guest.raw"))
        cloud.create_image(
            "guest", filename=guest, disk_format="raw", container_format="bare", visibility="public", min_ram=64, wait=True,
            hw_qemu_guest_agent="yes",
        )  # fmt: skip
    if alive("manila-api"):
        share_types(cloud)


def share_types(cloud: openstack.connection.Connection) -> None:
    """One share type per back end (openstacksdk cannot make them)."""
    existing = {kind["name"] for kind in manila(cloud, "GET", "/types")["share_types"]}
    for name, backend in SHARE_TYPES.items():
        if name not in existing:
            specs = {
                "driver_handles_share_servers": "False",
                "snapshot_support": "True",
                "create_share_from_snapshot_support": "True",
                "share_backend_name": backend,
            }
            kind = {"name": name, "share_type_access:is_public": True, "extra_specs": specs}
            manila(cloud, "POST", "/types", {"share_type": kind})


def manila(cloud: openstack.connection.Connection, method: str, path: str, body: Any = None) -> Any:
    """One call of the share API, for what openstacksdk does not know."""
    version = {"X-OpenStack-Manila-API-Version": "2.60"}
    service = {"service_type": "sharev2", "interface": "public", "region_name": "RegionOne"}
    return cloud.session.request(path, method, endpoint_filter=service, headers=version, json=body).json()


def alive(daemon: str) -> bool:
    """Whether testbed/up started this daemon."""
    return Path(os.environ["RUN"], daemon + ".pid").exists()


def born(daemon: str) -> float:
    """When this daemon was started, in seconds of the epoch."""
    return Path(os.environ["RUN"], daemon + ".pid").stat().st_mtime


def await_agents(cloud: openstack.connection.Connection, seconds: int = 240) -> None:
    """Returns when each agent has reported to its API since it was started: an older report says nothing."""
    end = time.monotonic() + seconds
    expected = {
        "cinder-volume",
        "cinder-backup",
        "cinder-scheduler",
        "nova-compute",
        "nova-conductor",
        "nova-scheduler",
    }
    expected |= {daemon for daemon in ("manila-share", "manila-scheduler") if alive(daemon)}
    while late := expected - reported(cloud):
        if time.monotonic() > end:
            sys.exit(f"testbed: no report from {', '.join(sorted(late))}")
        time.sleep(1)


def reported(cloud: openstack.connection.Connection) -> set[str]:
    """The agents that are up and have reported since their start."""
    reports = [(s.binary, s.state, s.updated_at) for s in (*cloud.block_storage.services(), *cloud.compute.services())]
    if alive("manila-api"):
        reports += [(s["binary"], s["state"], s["updated_at"]) for s in manila(cloud, "GET", "/services")["services"]]
    return {name for name, state, at in reports if state == "up" and at and epoch(at) >= born(name)}


def epoch(written: str) -> float:
    """Seconds of the epoch of an ISO time, which the services write in UTC without saying so."""
    return dt.datetime.fromisoformat(written).replace(tzinfo=dt.UTC).timestamp()


if __name__ == "__main__":
    admin = openstack.connect(cloud="admin")
    if sys.argv[1] == "identity":
        identity(admin)
    else:
        await_agents(admin)
        resources(admin)
