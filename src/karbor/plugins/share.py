"""Protects shares of Manila by snapshots: quick, and lost together with the share's back end."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.domain.resource import SHARE, Resource
from karbor.errors import NotFound, ResourceFailed
from karbor.plugins.cloud_inventory import CloudProtectable
from karbor.plugins.waiting import TAG, Pace, leftover
from karbor.sdk.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from karbor.sdk.cloud import CloudSession
    from karbor.sdk.op import Look, Op

_VERSION = "2.45"
"""Of Manila's rocky release: access rules listed as resources of their own."""
_PAGE = 1000
_WORKING = ("creating", "creating_from_snapshot", "extending", "shrinking", "manage_starting", "migrating")


class Manila:
    """A session's share service, in plain JSON."""

    def __init__(self, session: CloudSession) -> None:
        self._shares = session.connection.shared_file_system

    def get(self, path: str) -> Any:
        """The document at a path."""
        return self._shares.get(path, microversion=_VERSION, raise_exc=True).json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What is answered to a document."""
        return self._shares.post(path, json=body, microversion=_VERSION, raise_exc=True).json()

    def delete(self, path: str) -> None:
        """Remove what is at a path."""
        self._shares.delete(path, microversion=_VERSION, raise_exc=True)

    def all(self, kind: str, query: str = "") -> list[dict[str, Any]]:
        """Everything of a kind, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/{kind}/detail?limit={_PAGE}&offset={len(found)}{query}"
            rows = self.get(path)[kind]
            found += rows
            if len(rows) < _PAGE:
                return found

    def show(self, kind: str, ident: str) -> SimpleNamespace:
        """One share or snapshot."""
        return SimpleNamespace(**self.get(f"/{kind}s/{ident}")[kind])

    def access(self, share: str) -> list[dict[str, Any]]:
        """Who may use a share."""
        rows: list[dict[str, Any]] = self.get(f"/share-access-rules?share_id={share}")["access_list"]
        return rows


class Shares(CloudProtectable):
    """Shares of the project; none where the cloud has no Manila."""

    type = SHARE
    unfit = frozenset({"DELETING", "DELETED", "ERROR", "ERROR_DELETING", "MANAGE_ERROR", "UNMANAGE_ERROR",
                       "EXTENDING_ERROR", "SHRINKING_ERROR", "REVERTING_ERROR"})  # fmt: skip

    def found(self, session: CloudSession) -> Iterable[Any]:
        """By one listing."""
        has = session.has("shared-file-system")
        return [SimpleNamespace(**row) for row in Manila(session).all("shares")] if has else ()


class ShareOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a protect."""

    snapshot_name: Annotated[
        str | None, msgspec.Meta(title="Snapshot Name", description="The name of the snapshot.")
    ] = None
    description: Annotated[
        str | None, msgspec.Meta(title="Description", description="The description of the snapshot.")
    ] = None
    force: Annotated[bool, msgspec.Meta(title="Force", description="Also of a share that is in use.")] = False


class ShareRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore."""

    restore_name: Annotated[
        str | None, msgspec.Meta(title="Restore Share Name", description="Name of the new share: else the old one.")
    ] = None
    restore_description: Annotated[
        str | None, msgspec.Meta(title="Restore Description", description="Of the new share: else the old one.")
    ] = None


class ShareProtection(Protection):
    """The data stays on the share's back end, and the share cannot be deleted while it has snapshots."""

    name = "karbor-share-protection-plugin"
    section = "manila_snapshot_plugin"
    types = (SHARE,)
    protect_options = ShareOptions
    restore_options = ShareRestore
    settle_seconds = 20.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._pace = Pace(options)

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """One snapshot, which stays."""
        try:
            share = Manila(op.session).show("share", op.resource.id)
        except NotFound as error:
            return [_item(op, "refuse", op.resource.name, error.message)]
        if not share.snapshot_support:
            return [_item(op, "refuse", share.name or share.id, "its type has no snapshots")]
        if share.status.upper() in Shares.unfit:
            return [_item(op, "refuse", share.name or share.id, f"the share is {share.status}")]
        return [_item(op, "read", share.name or share.id, "by a snapshot, which stays in the back end")]

    def protect_prepare_finish(self, op: Op) -> None:
        """Snapshot the share; the snapshots of all resources are made before anything else begins."""
        manila = Manila(op.session)
        share = op.read("share", partial(_describe, manila, op.resource.id))
        get = partial(manila.show, "share", op.resource.id)
        self._pace.until(op, "share", get, {"available"}, _WORKING)

        def make(tag: str) -> str:
            body = {
                "share_id": op.resource.id,
                "name": op.options["snapshot_name"] or f"{op.checkpoint_id}@{share['name'] or op.resource.id}",
                "description": f"{op.options['description'] or ''} {tag}".strip(),
                "force": op.options["force"],
            }
            return str(manila.post("/snapshots", {"snapshot": body})["snapshot"]["id"])

        ident = op.once("snapshot", make, partial(_find_snapshot, manila, op.resource.id))
        self._pace.until(op, "snapshot", partial(manila.show, "snapshot", ident), {"available"}, {"creating"})
        op.save({"share": share, "snapshot_id": ident}, location="cloud snapshot", consistency="crash")

    def protect_undo(self, op: Op) -> None:
        """Remove the snapshot."""
        manila = Manila(op.session)
        ident = leftover(op, "snapshot", partial(_find_snapshot, manila, op.resource.id))
        if ident:
            self._remove(op, manila, "snapshot", ident)

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """One share, if the snapshot is there and the quota suffices."""
        saved, manila = op.saved["share"], Manila(op.session)
        what = f"share {op.options['restore_name'] or saved['name']} of checkpointed {saved['id']}"
        try:
            status = manila.show("snapshot", op.saved["snapshot_id"]).status
        except NotFound:
            status = "gone"
        if status != "available":
            yield _item(op, "refuse", what, f"its snapshot {op.saved['snapshot_id']} is {status}")
        left = op.session.remembered("share quota", partial(_quota, manila))
        for name, amount in (("shares", 1), ("gigabytes", saved["size"])):
            left[name] -= amount
            if left[name] < 0:
                yield _item(op, "refuse", what, f"the quota of {name} does not suffice: {-left[name]} are missing")
        yield _item(op, "create", what)

    def restore_main(self, op: Op) -> None:
        """Make a share from the snapshot, then let in who was let in."""
        saved, manila = op.saved["share"], Manila(op.session)
        name = op.options["restore_name"] or saved["name"]
        body = {
            "share_proto": saved["share_proto"],
            "size": saved["size"],
            "snapshot_id": op.saved["snapshot_id"],
            "name": name,
            "description": op.options["restore_description"] or saved["description"],
        }

        def make(tag: str) -> str:
            share = {**body, "metadata": {**saved["metadata"], TAG: tag}}
            return str(manila.post("/shares", {"share": share})["share"]["id"])

        ident = op.once("new share", make, partial(_find_share, manila))
        self._pace.until(op, "new share", partial(manila.show, "share", ident), {"available"}, _WORKING)
        for rule in saved["access"]:
            self._allow(op, manila, ident, rule)
        op.register(Resource(type=SHARE, id=ident, name=name))

    def restore_undo(self, op: Op) -> None:
        """Remove the share."""
        manila = Manila(op.session)
        ident = leftover(op, "new share", partial(_find_share, manila))
        if ident:
            self._remove(op, manila, "share", ident)

    def verify_main(self, op: Op) -> None:
        """Say that it cannot be: Manila tells a status, which proves nothing."""
        found = Manila(op.session).show("snapshot", op.saved["snapshot_id"])
        raise ResourceFailed(
            f"not verifiable: snapshot {found.id} is {found.status}, but its bytes lie outside the vault",
            hint="a test restore proves it",
        )

    def delete_main(self, op: Op) -> None:
        """Delete the snapshot."""
        self._remove(op, Manila(op.session), "snapshot", op.saved["snapshot_id"])

    def _allow(self, op: Op, manila: Manila, ident: str, rule: dict[str, str]) -> None:
        wanted = {**rule}

        def is_there() -> bool:
            return any({name: row[name] for name in wanted} == wanted for row in manila.access(ident))

        op.ensure(is_there, lambda: manila.post(f"/shares/{ident}/action", {"allow_access": wanted}))

    def _remove(self, op: Op, manila: Manila, kind: str, ident: str) -> None:
        get, delete = partial(manila.show, kind, ident), partial(manila.delete, f"/{kind}s/{ident}")
        self._pace.gone(op, kind, get, delete, _WORKING)


def _describe(manila: Manila, ident: str) -> dict[str, Any]:
    share = vars(manila.show("share", ident))
    kept = (
        "id",
        "name",
        "description",
        "share_proto",
        "size",
        "share_type_name",
        "share_network_id",
        "availability_zone",
    )
    access = [
        {name: row[name] for name in ("access_type", "access_to", "access_level")} for row in manila.access(ident)
    ]
    metadata = {key: value for key, value in share["metadata"].items() if key != TAG}
    return {**{name: share.get(name) for name in kept}, "metadata": metadata, "access": access}


def _find_snapshot(manila: Manila, share: str, tag: str) -> str | None:
    rows = manila.all("snapshots", f"&share_id={share}")
    return next((str(row["id"]) for row in rows if (row["description"] or "").endswith(tag)), None)


def _find_share(manila: Manila, tag: str) -> str | None:
    return next((str(row["id"]) for row in manila.all("shares") if row["metadata"].get(TAG) == tag), None)


def _quota(manila: Manila) -> dict[str, int]:
    limits = manila.get("/limits")["limits"]["absolute"]
    names = {"shares": ("maxTotalShares", "totalSharesUsed"),
             "gigabytes": ("maxTotalShareGigabytes", "totalShareGigabytesUsed")}  # fmt: skip
    return {
        name: limits[most] - limits[used] if limits.get(most, -1) >= 0 else 1 << 62
        for name, (most, used) in names.items()
    }


def _item(op: Look, action: Any, what: str, reason: str = "") -> PreflightItem:
    return PreflightItem(resource=op.resource.key, action=action, what=what, reason=reason)
