"""A round trip through every service of the testbed: makes things, compares their bytes, deletes them again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import openstack
import volume_bytes
from botocore.config import Config
from botocore.exceptions import ClientError
from content import alive, manila
from keystoneauth1.exceptions import HttpError, NotFound
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from openstack.exceptions import NotFoundException

if TYPE_CHECKING:
    from collections.abc import Callable

AUTH_URL, PASSWORD = os.environ["AUTH_URL"], os.environ["PASSWORD"]
SUFFIX = secrets.token_hex(2)
BEGAN = time.monotonic()
admin, demo, second = (openstack.connect(cloud=name) for name in ("admin", "demo", "second"))


class FailedError(Exception):
    """Something is not as it has to be."""


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f}s] {text}", flush=True)


def expect(what: str, holds: object) -> None:
    """Reports a fact, or ends the section."""
    if not holds:
        raise FailedError(what)
    say("    " + what)


def named(what: str) -> str:
    """A name that tells whose leftover this is, if one is left."""
    return f"check-{what}-{SUFFIX}"


def until(state: str, get: Callable[[], Any], seconds: int = 240) -> Any:
    """Waits for a resource's status; a state of error ends the wait."""
    end = time.monotonic() + seconds
    while (found := get()).status.lower() != state:
        if "error" in found.status.lower() or "failed" in found.status.lower():
            raise FailedError(f"{found.name} went to {found.status}")
        if time.monotonic() > end:
            raise FailedError(f"{found.name} is still {found.status} and not {state}")
        time.sleep(1)
    return found


def gone(get: Callable[[], Any], seconds: int = 120) -> None:
    """Waits until a resource cannot be found."""
    end = time.monotonic() + seconds
    with contextlib.suppress(NotFoundException, NotFound):
        while get():
            if time.monotonic() > end:
                raise FailedError("a deleted resource does not go away")
            time.sleep(1)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refused(call: Callable[[], Any], *errors: type[Exception]) -> bool:
    try:
        call()
    except errors:
        return True
    return False


def token(undo: ExitStack) -> None:
    """Tokens by password, trust and application credential."""
    alice, project = demo.current_user_id, demo.current_project_id
    expect("alice has a token in demo", project == admin.identity.find_project("demo").id)
    trust = demo.identity.create_trust(
        trustor_user_id=alice, trustee_user_id=second.current_user_id, project_id=project, impersonation=True, roles=[{"name": "member"}]
    )  # fmt: skip
    session = Session(
        v3.Password(AUTH_URL, username="bob", password=PASSWORD, user_domain_name="Default", trust_id=trust.id)
    )
    expect("bob acts as alice through a trust", (session.get_user_id(), session.get_project_id()) == (alice, project))
    demo.identity.delete_trust(trust.id)
    session.invalidate()
    expect("and no more once it is deleted", refused(session.get_token, HttpError))
    credential = demo.identity.create_application_credential(alice, named("credential"))
    undo.callback(demo.identity.delete_application_credential, alice, credential.id)
    plugin = v3.ApplicationCredential(
        AUTH_URL, application_credential_id=credential.id, application_credential_secret=credential.secret
    )
    expect("an application credential gives a token in demo", Session(plugin).get_project_id() == project)


def swift(undo: ExitStack) -> None:
    """Objects, and who may read them."""
    container, data = named("container"), secrets.token_bytes(3 << 20)
    demo.object_store.create_container(name=container)
    undo.callback(demo.object_store.delete_container, container)
    demo.object_store.upload_object(container, "bytes", data=data)
    undo.callback(demo.object_store.delete_object, "bytes", container=container)
    expect("3 MiB stored and read", demo.object_store.download_object("bytes", container) == data)
    address = f"{demo.object_store.get_endpoint()}/{container}/bytes"
    expect("another tenant may not read them", second.session.get(address, raise_exc=False).status_code == 403)
    acl = {"X-Container-Read": f"{second.current_project_id}:*"}
    demo.session.post(f"{demo.object_store.get_endpoint()}/{container}", headers=acl)
    expect("unless a read ACL names his project", second.session.get(address).content == data)
    expect("which does not let him write", second.session.put(address, data=b"", raise_exc=False).status_code == 403)


def s3(undo: ExitStack) -> None:
    """Ceph's S3 gateway with versions and locks; Swift's s3api."""
    style = Config(s3={"addressing_style": "path"})
    session = botocore.session.get_session()

    def client(port: int, key: str, region: str) -> Any:
        where = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": region, "config": style}
        return session.create_client("s3", aws_access_key_id=key, aws_secret_access_key=f"{PASSWORD}-{key}", **where)

    ceph, stranger, bucket = client(7480, "karbor", "default"), client(7480, "second", "default"), named("bucket")
    ceph.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    undo.callback(ceph.delete_bucket, Bucket=bucket)
    first = ceph.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
    later = ceph.put_object(Bucket=bucket, Key="k", Body=b"later")["VersionId"]
    expect(
        "Ceph S3 keeps versions", ceph.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"first"
    )
    expect("a stranger may not read", refused(lambda: stranger.get_object(Bucket=bucket, Key="k"), ClientError))
    lock = {
        "Mode": "GOVERNANCE",
        "RetainUntilDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)),
    }
    ceph.put_object_retention(Bucket=bucket, Key="k", VersionId=first, Retention=lock)
    expect(
        "a locked version cannot be deleted",
        refused(lambda: ceph.delete_object(Bucket=bucket, Key="k", VersionId=first), ClientError),
    )
    ceph.delete_object(Bucket=bucket, Key="k", VersionId=first, BypassGovernanceRetention=True)
    ceph.delete_object(Bucket=bucket, Key="k", VersionId=later)
    other = client(8080, "demo", "RegionOne")
    other.create_bucket(Bucket=bucket)
    undo.callback(other.delete_bucket, Bucket=bucket)
    other.put_object(Bucket=bucket, Key="k", Body=b"bytes")
    undo.callback(other.delete_object, Bucket=bucket, Key="k")
    expect("Swift's s3api stores and reads", other.get_object(Bucket=bucket, Key="k")["Body"].read() == b"bytes")


def barbican(undo: ExitStack) -> None:
    """A secret, there and back."""
    secret = demo.key_manager.create_secret(name=named("secret"), payload="known", payload_content_type="text/plain")
    address = f"http://127.0.0.1:9311/v1/secrets/{secret.secret_ref.rsplit('/', 1)[1]}"
    undo.callback(demo.session.delete, address)
    payload = {"Accept": "text/plain"}
    expect("secret stored and read", demo.session.get(f"{address}/payload", headers=payload).text == "known")
    expect(
        "not by another tenant",
        second.session.get(f"{address}/payload", headers=payload, raise_exc=False).status_code in {403, 404},
    )


def volume(undo: ExitStack, **content: str) -> Any:
    """A volume of 1 GiB, deleted with the section."""
    made = demo.block_storage.create_volume(size=1, name=named("volume"), **content)
    undo.callback(gone, lambda: demo.block_storage.find_volume(made.id))
    undo.callback(demo.block_storage.delete_volume, made.id)
    return until("available", lambda: demo.block_storage.get_volume(made.id))


def backup(undo: ExitStack, source: Any, **options: Any) -> Any:
    """A backup to Swift, deleted with the section."""
    made = demo.block_storage.create_backup(
        volume_id=source.id, name=named("backup"), container=named("backups"), **options
    )
    undo.callback(gone, lambda: demo.block_storage.find_backup(made.id))
    undo.callback(demo.block_storage.delete_backup, made.id)
    return until("available", lambda: demo.block_storage.get_backup(made.id))


def cinder(undo: ExitStack) -> None:
    """Volume, snapshot, full and incremental backup, restore."""
    undo.callback(demo.object_store.delete_container, named("backups"))
    source = volume(undo)
    volume_bytes.write(source.id, secrets.token_bytes(24 << 20), 5 << 20)
    full_hash, full = volume_bytes.sha256(source.id), backup(undo, source)
    expect("full backup lies in Swift", len(list(demo.object_store.objects(named("backups")))) > 10)
    volume_bytes.write(source.id, secrets.token_bytes(1 << 20), 6 << 20)
    increment_hash, increment = volume_bytes.sha256(source.id), backup(undo, source, is_incremental=True)
    expect("incremental backup", increment.is_incremental)
    for saved, digest in ((full, full_hash), (increment, increment_hash)):
        target = volume(undo)
        demo.block_storage.restore_backup(saved.id, volume_id=target.id)
        until("available", lambda saved=saved: demo.block_storage.get_backup(saved.id))
        until("available", lambda target=target: demo.block_storage.get_volume(target.id))
        expect("restored with the same SHA-256", volume_bytes.sha256(target.id) == digest)
    snapshot = demo.block_storage.create_snapshot(volume_id=source.id, name=named("snapshot"))
    undo.callback(gone, lambda: demo.block_storage.find_snapshot(snapshot.id))
    undo.callback(demo.block_storage.delete_snapshot, snapshot.id)
    until("available", lambda: demo.block_storage.get_snapshot(snapshot.id))
    volume_bytes.write(source.id, b"written after the snapshot")
    clone = volume(undo, snapshot_id=snapshot.id)
    expect("a volume from the snapshot has the bytes of then", volume_bytes.sha256(clone.id) == increment_hash)


def glance(undo: ExitStack) -> None:
    """Image up, down, and as a volume."""
    data = secrets.token_bytes(64 << 20)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        image = demo.create_image(
            named("image"), filename=file.name, disk_format="raw", container_format="bare", wait=True
        )
    undo.callback(demo.image.delete_image, image.id)
    expect("64 MiB read as they were written", sha256(demo.image.download_image(image.id).content) == sha256(data))
    made = volume(undo, image_id=image.id)
    expect("a volume from the image has its bytes", volume_bytes.sha256(made.id, 0, len(data)) == sha256(data))


def neutron(undo: ExitStack) -> tuple[Any, str]:
    """Network, subnet, router, security group, port and floating IP; gives the port and its outer address."""
    network, public = demo.network, admin.network.find_network("public")
    net = network.create_network(name=named("net"))
    undo.callback(network.delete_network, net)
    subnet = network.create_subnet(name=named("subnet"), network_id=net.id, cidr="10.86.0.0/24", ip_version=4)
    router = network.create_router(name=named("router"), external_gateway_info={"network_id": public.id})
    undo.callback(network.delete_router, router)
    network.add_interface_to_router(router, subnet_id=subnet.id)
    undo.callback(network.remove_interface_from_router, router, subnet_id=subnet.id)
    group = network.create_security_group(name=named("group"))
    undo.callback(network.delete_security_group, group)
    for protocol in ("icmp", "tcp"):
        network.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol=protocol)
    port = network.create_port(network_id=net.id, name=named("port"), security_group_ids=[group.id])
    undo.callback(network.delete_port, port)
    outer = network.create_ip(floating_network_id=public.id, port_id=port.id)
    undo.callback(network.delete_ip, outer)
    expect(f"port {port.fixed_ips[0]['ip_address']} is {outer.floating_ip_address} outside", port)
    return port, outer.floating_ip_address


def ask_guest(address: str, question: str, seconds: int = 150) -> str:
    """The answer of the guest's TCP service; it takes a while to boot, and to see a new disk."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((address, 7777), 3) as link:
                link.settimeout(20)
                link.sendall(question.encode() + b"\n")
                return link.makefile().readline().split()[0]
        except (OSError, IndexError) as error:
            if time.monotonic() > end:
                raise FailedError(f"the guest does not answer on {address}: {error}") from error
            time.sleep(2)


def nova(undo: ExitStack) -> None:
    """A server boots, answers on its floating IP, sees an attached volume; its snapshot becomes an image."""
    compute, (port, address) = demo.compute, neutron(undo)
    data, disk = secrets.token_bytes(1 << 20), volume(undo)
    volume_bytes.write(disk.id, data)
    script = base64.b64encode(b"#!/bin/sh\necho GUEST ran its user data\n").decode()
    kind = {"image_id": demo.image.find_image("guest").id, "flavor_id": compute.find_flavor("m1.micro").id}
    server = compute.create_server(name=named("server"), networks=[{"port": port.id}], user_data=script, **kind)
    undo.callback(gone, lambda: compute.find_server(server.id))
    undo.callback(compute.delete_server, server.id)
    until("active", lambda: compute.get_server(server.id))
    expect("server is active and its guest answers on the floating IP", ask_guest(address, "vda 0 1"))
    compute.create_volume_attachment(server.id, volume_id=disk.id)
    until("in-use", lambda: demo.block_storage.get_volume(disk.id))
    expect("guest reads a volume attached to it", ask_guest(address, "vdb 0 1") == sha256(data))
    console = compute.get_server_console_output(server.id)["output"]
    for line in console.splitlines():
        if "GUEST" in line:
            say("        " + line)
    for sign in ("GUEST config-drive", "GUEST ran its user data", "GUEST agent"):
        expect(f"console says {sign!r}", sign in console)
    snapshot = compute.create_server_image(server.id, name=named("snapshot"))
    undo.callback(demo.image.delete_image, snapshot.id)
    until("active", lambda: demo.image.get_image(snapshot.id))
    expect("its snapshot is an image", snapshot)
    compute.delete_volume_attachment(server.id, disk.id)
    until("available", lambda: demo.block_storage.get_volume(disk.id))


def share(undo: ExitStack) -> None:
    """A CephFS share is mounted, written, and read back from its snapshot."""
    shares = demo.shared_file_system
    made = shares.create_share(share_protocol="CEPHFS", size=1, name=named("share"), share_type="cephfs")
    undo.callback(gone, lambda: shares.get_share(made.id))
    undo.callback(shares.delete_share, made.id)
    until("available", lambda: shares.get_share(made.id))
    access = {"access_type": "cephx", "access_to": named("user"), "access_level": "rw"}
    manila(demo, "POST", f"/shares/{made.id}/action", {"allow_access": access})
    while not (key := manila(demo, "GET", f"/share-access-rules?share_id={made.id}")["access_list"][0]["access_key"]):
        time.sleep(1)
    location = manila(demo, "GET", f"/shares/{made.id}/export_locations")["export_locations"][0]["path"]
    folder, keyring = Path(tempfile.mkdtemp()), Path(tempfile.mkstemp()[1])
    undo.callback(keyring.unlink)
    undo.callback(folder.rmdir)
    keyring.write_text(f"[client.{named('user')}]\n key = {key}\n")
    fuse = [
        "ceph-fuse",
        "-f",
        "-n",
        f"client.{named('user')}",
        "--keyring",
        keyring,
        "-r",
        "/" + location.split(":/", 1)[1],
        folder,
    ]
    mount = subprocess.Popen(fuse, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    undo.callback(mount.wait, 10)
    undo.callback(subprocess.run, ["umount", folder], check=True)
    while not folder.is_mount():
        if mount.poll() is not None:
            raise FailedError("ceph-fuse ended")
        time.sleep(0.2)
    data = secrets.token_bytes(3 << 20)
    (folder / "file").write_bytes(data)
    os.sync()
    snapshot = shares.create_share_snapshot(share_id=made.id, name=named("snapshot"))
    undo.callback(gone, lambda: shares.get_share_snapshot(snapshot.id))
    undo.callback(shares.delete_share_snapshot, snapshot.id)
    until("available", lambda: shares.get_share_snapshot(snapshot.id))
    (folder / "file").write_bytes(b"later")
    (then,) = (folder / ".snap").iterdir()
    expect("the share's snapshot has the bytes of then", (then / "file").read_bytes() == data)


def heat(undo: ExitStack) -> None:
    """A stack of a volume and a network."""
    parts = {"v": {"type": "OS::Cinder::Volume", "properties": {"size": 1}}, "n": {"type": "OS::Neutron::Net"}}
    template = {"heat_template_version": "2018-08-31", "resources": parts}
    stack = demo.orchestration.create_stack(name=named("stack"), template=template)
    undo.callback(demo.orchestration.delete_stack, stack.id)
    until("create_complete", lambda: demo.orchestration.get_stack(stack.id))
    expect("stack is complete", stack)


def trove(_: ExitStack) -> None:
    """The API answers; this testbed has no database instances."""
    address = demo.session.get_endpoint(service_type="database", interface="public")
    expect("instances are listed", demo.session.get(f"{address}/instances").json() == {"instances": []})


def freezer(undo: ExitStack) -> None:
    """Freezer's agent backs a directory up to Swift and restores it."""
    credentials = {
        "OS_AUTH_URL": AUTH_URL, "OS_USERNAME": "alice", "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": "demo", "OS_IDENTITY_API_VERSION": "3",
        "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": "RegionOne",
    }  # fmt: skip
    source, target = (Path(undo.enter_context(tempfile.TemporaryDirectory())) for _ in range(2))
    (source / "file").write_bytes(secrets.token_bytes(2 << 20))
    undo.callback(demo.object_store.delete_container, named("freezer"))
    undo.callback(
        lambda: [
            demo.object_store.delete_object(o, container=named("freezer"))
            for o in demo.object_store.objects(named("freezer"))
        ]
    )
    common = [
        "freezer-agent",
        "--storage",
        "swift",
        "--container",
        named("freezer"),
        "--backup-name",
        named("backup"),
        "--log-file",
        f"{os.environ['LOG']}/freezer-agent.log",
    ]
    for action in (["backup", "--mode", "fs", "--path-to-backup", source], ["restore", "--restore-abs-path", target]):
        subprocess.run(
            [*common, "--action", *action],
            env=os.environ | credentials,
            check=True,
            capture_output=True,
            timeout=200,
            cwd="/tmp",
        )
    expect("freezer-agent restored the directory", (source / "file").read_bytes() == (target / "file").read_bytes())


SECTIONS = {  # what to check: one of its daemons
    token: "keystone", swift: "swift-proxy", s3: "ceph-rgw", barbican: "barbican", cinder: "cinder-backup", glance: "glance-api",
    neutron: "neutron-api", nova: "nova-compute", share: "manila-share", heat: "heat-engine", trove: "trove-api", freezer: "freezer-api",
}  # fmt: skip


def main(wanted: list[str]) -> int:
    """Runs the sections named, or all whose service is up, each with its own clean-up; the number of those that failed."""
    if unknown := set(wanted) - {section.__name__ for section in SECTIONS}:
        sys.exit(
            f"testbed: no section {', '.join(sorted(unknown))}; there are {', '.join(s.__name__ for s in SECTIONS)}"
        )
    results = []
    for section, daemon in SECTIONS.items():
        if section.__name__ not in wanted and (wanted or not alive(daemon)):
            continue
        began, verdict = time.monotonic(), "PASS"
        say(section.__name__)
        try:
            with ExitStack() as undo:
                section(undo)
        except Exception as error:  # noqa: BLE001  # one broken service must not hide the state of the others
            while error.__context__:  # the first failure tells more than those of the clean-up
                error = error.__context__
            verdict = f"FAIL {type(error).__name__}: {error}"
        results.append(verdict)
        say(f"{section.__name__}: {verdict[:300]} ({time.monotonic() - began:.1f} s)")
    say(f"check: {results.count('PASS')} of {len(results)} PASS")
    return len(results) - results.count("PASS")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
