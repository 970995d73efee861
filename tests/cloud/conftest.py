"""Tests on the real OpenStack of testbed/: connections, a fresh tenant per test, and an audit of what a test leaves behind.

Nothing here is skipped: without a running testbed every test of this folder fails and says how to start it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from keystoneauth1.exceptions import ClientException
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from openstack.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = Path(os.environ.get("KARBOR_CLOUD", "/opt/karbor-cloud"))
VOLUME_BYTES = Path(__file__).parents[2] / "testbed" / "volume_bytes.py"
SETTLE = 60.0  # seconds in which deleted things have to disappear


def pytest_configure(config: pytest.Config) -> None:
    """openstacksdk warns of its own internals at every call; warnings of everything else stay errors."""
    for kind in ("OpenStackDeprecationWarning", "RemovedInSDK50Warning", "RemovedInSDK60Warning"):
        config.addinivalue_line("filterwarnings", f"ignore::openstack.warnings.{kind}")


Listing = set[tuple[str, str, str]]  # kind, id, name


@dataclass(frozen=True)
class Tenant:
    """A project of its own with one ordinary user (member, creator), and that user's connection."""

    project_id: str
    user_id: str
    user_name: str
    password: str
    cloud: Connection


def connect(name: str, **changes: str) -> Connection:
    """A connection to the testbed as one of the users in its clouds.yaml, with changes to what he logs in with."""
    configuration = PREFIX / "etc" / "clouds.yaml"
    if not (PREFIX / "run" / "keystone.pid").exists() or not configuration.exists():
        pytest.fail(f"no testbed is up at {PREFIX}: run testbed/up as root", pytrace=False)
    entry = yaml.safe_load(configuration.read_text())["clouds"][name]
    session = Session(v3.Password(**entry["auth"] | changes), timeout=60)
    try:
        session.get_token()
    except ClientException as error:
        pytest.fail(f"the testbed at {PREFIX} does not answer ({error}): run testbed/up as root", pytrace=False)
    return Connection(session=session, region_name=entry["region_name"])


@pytest.fixture(scope="session")
def admin() -> Connection:
    """The administrator of the whole cloud."""
    return connect("admin")


@pytest.fixture(scope="session")
def service() -> Connection:
    """The user that Karbor's own services run as."""
    return connect("service")


@pytest.fixture(scope="session")
def demo() -> Connection:
    """An ordinary tenant."""
    return connect("demo")


@pytest.fixture(scope="session")
def second() -> Connection:
    """Another ordinary tenant, who must see nothing of the first."""
    return connect("second")


@pytest.fixture
def new_tenant(admin: Connection, no_leftovers: None) -> Iterator[Callable[[], Tenant]]:
    """Makes fresh tenants; each is removed with the test, and what it still owns then is a leftover."""
    made: list[Tenant] = []

    def make() -> Tenant:
        name, password = f"test-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
        project = admin.identity.create_project(name=name, domain_id="default")
        user = admin.identity.create_user(
            name=name, password=password, domain_id="default", default_project_id=project.id
        )
        for role in ("member", "creator"):
            admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role(role))
        cloud = connect("demo", username=name, password=password, project_name=name)
        tenant = Tenant(project.id, user.id, name, password, cloud)
        made.append(tenant)
        return tenant

    yield make
    owned = {left for tenant in made for left in own(tenant)}
    for tenant in made:
        for group in admin.network.security_groups(project_id=tenant.project_id, name="default"):
            admin.network.delete_security_group(group)  # Neutron made it, and does not follow the project's end
        tenant.cloud.close()
        admin.identity.delete_user(tenant.user_id)
        admin.identity.delete_project(tenant.project_id)
    assert not owned, report(owned)


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    """One fresh tenant."""
    return new_tenant()


@pytest.fixture
def leftovers(admin: Connection) -> Callable[[], Listing]:
    """What has appeared in the cloud, in any project, since the test began."""
    before = listing(admin)
    return lambda: listing(admin) - before


@pytest.fixture
def no_leftovers(leftovers: Callable[[], Listing]) -> Iterator[None]:
    """Fails the test that leaves anything behind. It sees the whole cloud: one test at a time."""
    yield
    end = time.monotonic() + SETTLE
    while left := leftovers():
        if time.monotonic() > end:
            pytest.fail(report(left), pytrace=False)
        time.sleep(1)


@pytest.fixture(scope="session")
def volume_bytes() -> Callable[..., bytes]:
    """Runs testbed/volume_bytes.py: `volume_bytes("sha256", volume_id)`, `volume_bytes("write", volume_id, 0, data=b"…")`."""

    def run(action: str, volume: str, *place: int, data: bytes = b"") -> bytes:
        command = [PREFIX / "venv" / "bin" / "python", VOLUME_BYTES, action, volume, *map(str, place)]
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=120).stdout

    return run


def listing(admin: Connection) -> Listing:
    """What exists in the cloud, over all projects: one listing per kind."""
    storage, network, compute = admin.block_storage, admin.network, admin.compute
    kinds = {
        "volume": storage.volumes(details=True, all_projects=True),
        "volume snapshot": storage.snapshots(details=True, all_projects=True),
        "volume backup": storage.backups(details=True, all_tenants=True),
        "image": admin.image.images(),
        "server": compute.servers(details=True, all_projects=True),
        "server group": compute.server_groups(all_projects=True),
        "network": network.networks(),
        "subnet": network.subnets(),
        "router": network.routers(),
        "port": network.ports(),
        "floating IP": network.ips(),
        "security group": (group for group in network.security_groups() if group.name != "default"),
        "project": admin.identity.projects(),
        "user": admin.identity.users(),
        "trust": admin.identity.trusts(),
    }
    found = {(kind, item.id, item.name or "") for kind, items in kinds.items() for item in items}
    if (PREFIX / "run" / "manila-api.pid").exists():
        shares = admin.shared_file_system
        found |= {("share", share.id, share.name or "") for share in shares.shares(all_tenants=True)}
        found |= {("share snapshot", item.id, item.name or "") for item in shares.share_snapshots(all_tenants=True)}
    return found


def own(tenant: Tenant) -> Listing:
    """What only the tenant himself can list: containers, secrets, key pairs, application credentials."""
    cloud = tenant.cloud
    return (
        {("container", item.name, "") for item in cloud.object_store.containers()}
        | {("secret", item.id, item.name or "") for item in cloud.key_manager.secrets()}
        | {("key pair", item.id, item.name) for item in cloud.compute.keypairs()}
        | {
            ("application credential", item.id, item.name)
            for item in cloud.identity.application_credentials(tenant.user_id)
        }
    )


def report(left: Listing) -> str:
    """The leftovers, one per line."""
    return "left behind in the cloud:\n" + "\n".join(f"  {kind} {item} {name}" for kind, item, name in sorted(left))
