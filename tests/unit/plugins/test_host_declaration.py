"""Declarations: what is read, what is refused and with which words, and ids that stay."""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karbor.domain.resource import HOST_APPLICATION, HOST_DIRECTORY, Resource
from karbor.errors import Conflict, InvalidInput, NotFound
from karbor.plugins.host.application import Applications, Databases, Directories, DiskImages
from karbor.plugins.host.declaration import (
    Allowances,
    Application,
    Command,
    Directory,
    DiskImage,
    Server,
    Sqlite,
    load_declarations,
    write_declaration,
)
from karbor.plugins.host.inventory import Inventory

EXAMPLES = Path(__file__).parents[3] / "examples" / "hosts.d"


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    folder = tmp_path / "hosts.d"
    folder.mkdir(mode=0o755)
    return folder


def declare(hosts: Path, text: str | dict, name: str = "shop.yaml", mode: int = 0o640) -> Path:
    path = hosts / name
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    path.chmod(mode)
    return path


SHOP = {
    "name": "shop",
    "members": [
        {"kind": "directory", "path": "/srv/www", "layer": "web"},
        {"kind": "disk image", "path": "/srv/vm.img", "layer": "application"},
        {"kind": "sqlite", "path": "/srv/orders.db"},
        {"kind": "database server", "engine": "postgresql", "database": "crm"},
    ],
}


def test_members_become_resources_with_their_layers(hosts: Path) -> None:
    declare(hosts, SHOP)
    options = {"hosts_dir": str(hosts)}
    [shop] = Applications(options).list(None)
    assert (shop.type, shop.name, shop.layer) == (HOST_APPLICATION, "shop", "")
    [www] = Directories(options).list(None)
    assert (www.name, www.layer, www.extra_info["path"]) == ("/srv/www", "web", "/srv/www")
    assert [image.layer for image in DiskImages(options).list(None)] == ["application"]
    databases = Databases(options).dependents(None, [shop])[shop.key]
    assert [(each.name, each.layer, each.extra_info["kind"]) for each in databases] == [
        ("/srv/orders.db", "database", "sqlite"),
        ("postgresql:crm", "database", "postgresql"),
    ]


def test_ids_follow_from_names_alone(hosts: Path) -> None:
    declare(hosts, SHOP)
    before = {declared.resource.name: declared.resource.id for declared in Inventory({"hosts_dir": str(hosts)}).all()}
    changed = {**SHOP, "members": [{**SHOP["members"][0], "layer": "", "excludes": ["*.o"]}, *SHOP["members"][1:]]}
    declare(hosts, changed, name="another-file.yaml")
    (hosts / "shop.yaml").unlink()
    after = {declared.resource.name: declared.resource.id for declared in Inventory({"hosts_dir": str(hosts)}).all()}
    assert after == before
    # The id of an application that was declared in an earlier year must still be this one.
    assert before["shop"] == "428ac5b1-799e-5c51-b603-c404339fe9f4"
    assert all(str(uuid.UUID(ident)) == ident for ident in before.values())


def test_a_missing_folder_declares_nothing(tmp_path: Path) -> None:
    assert load_declarations(str(tmp_path / "none")) == []


def test_an_application_that_is_gone_is_an_error_not_a_smaller_checkpoint(hosts: Path) -> None:
    declare(hosts, SHOP)
    options = {"hosts_dir": str(hosts)}
    [shop] = Applications(options).list(None)
    (hosts / "shop.yaml").unlink()
    with pytest.raises(NotFound, match="application shop is not declared"):
        Directories(options).dependents(None, [shop])


def test_only_type_and_id_of_a_resource_count(hosts: Path) -> None:
    declare(hosts, SHOP)
    inventory = Inventory({"hosts_dir": str(hosts)})
    [www] = Directories({"hosts_dir": str(hosts)}).list(None)
    forged = Resource(type=HOST_DIRECTORY, id=www.id, name="/etc", extra_info={"path": "/etc"})
    assert inventory.find(forged).member.path == "/srv/www"
    with pytest.raises(NotFound, match="not declared"):
        inventory.find(Resource(type=HOST_DIRECTORY, id=str(uuid.uuid4()), name="/etc", extra_info={"path": "/etc"}))


def member(**fields: object) -> dict:
    return {"name": "shop", "members": [{"kind": "directory", "path": "/srv/www", **fields}]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("- a list", "Expected `object`"),
        ("{unclosed", "not YAML"),
        ("name: !!python/object/apply:os.system [id]", "not YAML"),
        ({"name": "shop"}, "members"),
        ({"name": "shop", "members": []}, "members"),
        ({"name": "../shop", "members": SHOP["members"]}, "name"),
        ({**SHOP, "member": []}, "unknown field `member`"),
        (member(kind="folder"), "members"),
        (member(exclude=["x"]), "unknown field `exclude`"),
        (member(path="srv/www"), "path"),
        (member(path="/srv/../etc"), "members[0].path: /srv/../etc is not a normal path: write /etc"),
        (member(layer="frontend"), "layer"),
        (member(on_change="ignore"), "on_change"),
        ({**member(layer="web"), "layers": ["database"]}, "members[0].layer: web is none of"),
        ({**SHOP, "members": SHOP["members"] * 2}, "members[4]: /srv/www is declared twice"),
        ({**SHOP, "before": [{"command": "shutdown -h now"}]}, "command"),
        ({**SHOP, "before": [{"command": ["shutdown"]}]}, "before[0].command: shutdown is not an absolute path"),
        ({**SHOP, "after": [{"command": ["/bin/true"], "deadline": 0}]}, "deadline"),
        ({**SHOP, "restore_roots": ["/srv/"]}, "restore_roots[0]"),
        ({**SHOP, "options": {"owner": True}}, "unknown field `owner`"),
        ({"name": "x", "members": [{"kind": "database server", "engine": "oracle", "database": "x"}]}, "engine"),
        (
            {"name": "x", "members": [{"kind": "database server", "engine": "mariadb", "database": "a`;DROP"}]},
            "database",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_field(hosts: Path, document: object, said: str) -> None:
    path = declare(hosts, document)
    with pytest.raises(InvalidInput) as caught:
        load_declarations(str(hosts))
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_a_name_declared_in_two_files_is_refused(hosts: Path) -> None:
    declare(hosts, SHOP)
    declare(hosts, SHOP, name="copy.yaml")
    with pytest.raises(InvalidInput, match=r"shop\.yaml: name: shop is declared twice"):
        load_declarations(str(hosts))


@pytest.mark.parametrize("mode", [0o660, 0o646])
def test_a_file_that_others_may_write_is_refused(hosts: Path, mode: int) -> None:
    path = declare(hosts, SHOP, mode=mode)
    with pytest.raises(InvalidInput, match="writable by others") as caught:
        load_declarations(str(hosts))
    assert str(path) in caught.value.message


def test_a_link_is_no_declaration(hosts: Path, tmp_path: Path) -> None:
    declare(tmp_path, SHOP, name="elsewhere")
    (hosts / "shop.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match=r"shop\.yaml"):
        load_declarations(str(hosts))


@pytest.mark.parametrize("which", ["hosts.d", "."])
def test_a_folder_or_parent_that_others_may_write_is_refused(hosts: Path, which: str) -> None:
    declare(hosts, SHOP)
    open_to_all = (hosts.parent / which).resolve()
    open_to_all.chmod(0o775)
    with pytest.raises(InvalidInput) as caught:
        load_declarations(str(hosts))
    assert f"{open_to_all} is writable by others" in caught.value.message


def test_the_way_through_a_link_is_checked_too(hosts: Path, tmp_path: Path) -> None:
    declare(hosts, SHOP)
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "link").symlink_to(hosts)
    with pytest.raises(InvalidInput, match="loose is writable by others"):
        load_declarations(str(loose / "link"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_parent_of_another_user_is_refused(hosts: Path) -> None:
    declare(hosts, SHOP)
    os.chown(hosts.parent, 12345, -1)
    with pytest.raises(InvalidInput, match=r"belongs to another user \(uid 12345\)"):
        load_declarations(str(hosts))


def test_a_password_that_others_may_read_is_refused_without_being_told(hosts: Path) -> None:
    with_password = {**SHOP, "members": [{**SHOP["members"][3], "password": "s3cret"}]}
    declare(hosts, with_password, mode=0o644)
    with pytest.raises(InvalidInput, match="readable by others") as caught:
        load_declarations(str(hosts))
    assert "s3cret" not in caught.value.message
    declare(hosts, with_password, mode=0o640)
    [shop] = load_declarations(str(hosts))
    assert isinstance(shop.members[0], Server)


def test_a_mistake_beside_a_password_does_not_tell_it(hosts: Path) -> None:
    declare(hosts, 'name: shop\nmembers:\n- {password: s3cret, "unclosed}\n')
    with pytest.raises(InvalidInput, match=r"not YAML: .* in line") as caught:
        load_declarations(str(hosts))
    assert "s3cret" not in caught.value.message
    assert caught.value.__cause__ is None
    assert "s3cret" not in repr(Server(engine="mariadb", database="x", password="s3cret", restore_password="s3cret"))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
WORDS = st.sampled_from(
    ["name", "members", "kind", "directory", "sqlite", "path", "/srv", "before", "command", "layer"]
)
DOCUMENTS = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(document=DOCUMENTS | st.binary(max_size=60))
def test_whatever_a_file_holds_is_a_declaration_or_a_clear_error(hosts: Path, document: object) -> None:
    path = hosts / "shop.yaml"
    path.write_bytes(document if isinstance(document, bytes) else yaml.safe_dump(document).encode())
    path.chmod(0o640)
    said = str(path)
    try:
        load_declarations(str(hosts))
    except InvalidInput as error:
        said = error.message
    assert said.startswith(str(path))


def test_the_example_is_a_declaration(hosts: Path) -> None:
    declare(hosts, (EXAMPLES / "shop.yaml").read_text())
    [shop] = load_declarations(str(hosts))
    assert [member.layer for member in shop.members] == ["web", "application", "database", "database"]


def test_written_declarations_recognise_what_lies_at_a_path(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "vm.img").write_bytes(b"\0" * 512)
    sqlite3.connect(tmp_path / "orders.db").execute("CREATE TABLE t (x)").connection.close()
    (tmp_path / "link").symlink_to(tmp_path / "www")
    hosts = tmp_path / "state" / "hosts.d"
    path = write_declaration(hosts, "shop", [tmp_path / "link", tmp_path / "vm.img", tmp_path / "orders.db"])
    assert path.stat().st_mode & 0o777 == 0o640
    [shop] = load_declarations(str(hosts))
    assert [(type(each).__name__, each.path) for each in shop.members] == [
        ("Directory", str(tmp_path / "www")),
        ("DiskImage", str(tmp_path / "vm.img")),
        ("Sqlite", str(tmp_path / "orders.db")),
    ]
    with pytest.raises(Conflict, match="already declared"):
        write_declaration(hosts, "shop", [tmp_path / "www"])


@pytest.mark.parametrize("name", ["../x", "", "a b"])
def test_a_name_that_is_none_writes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "www").mkdir()
    with pytest.raises(InvalidInput):
        write_declaration(tmp_path / "hosts.d", name, [tmp_path / "www"])
    assert not (tmp_path / "hosts.d").exists()


def test_what_is_missing_cannot_be_declared(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no directory, regular file or block device"):
        write_declaration(tmp_path / "hosts.d", "shop", [tmp_path / "gone"])


@pytest.mark.parametrize("struct", [Application, Directory, DiskImage, Sqlite, Server, Command, Allowances])
def test_every_field_stands_in_the_reference(struct: type) -> None:
    text = (EXAMPLES.parents[1] / "docs" / "reference" / "hosts.d.md").read_text()
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in text] == []
