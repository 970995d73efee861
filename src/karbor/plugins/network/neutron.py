"""Neutron as this package speaks with it: plain JSON, whole listings, and things found again by their description.

Networking API v2.0. Whatever is made carries its tag as description in the create body until it has been recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.errors import NotFound

if TYPE_CHECKING:
    from karbor.sdk.cloud import CloudSession

    Item = dict[str, Any]

KINDS = ("networks", "subnets", "routers", "security_groups", "ports", "floating_ips")
"""In the order in which they are made; each is removed before those in front of it."""
_PATHS = {
    "security_groups": "security-groups",
    "floating_ips": "floatingips",
    "security_group_rules": "security-group-rules",
}
_KEYS = {"floating_ips": "floatingips"}
_PAGE = 1000


class Neutron:
    """A session's network service."""

    def __init__(self, session: CloudSession) -> None:
        self._session, self._network = session, session.connection.network

    def all(self, kind: str, **filters: str) -> list[Item]:
        """Everything of a kind that the project sees, page by page."""
        found: list[Item] = []
        page: dict[str, Any] = {**filters, "limit": _PAGE, "sort_key": "id", "sort_dir": "asc"}
        while True:
            answer = self._network.get(f"/{_path(kind)}", params=page, raise_exc=True).json()
            rows = answer[_KEYS.get(kind, kind)]
            found += rows
            if len(rows) < _PAGE:
                return found
            page["marker"] = rows[-1]["id"]

    def own(self, kind: str) -> list[Item]:
        """Everything of a kind that belongs to the project, listed once in a session."""
        project = self._session.project_id
        rows: list[Item] = self._session.remembered(f"neutron {kind}", lambda: self.all(kind, project_id=project))
        return rows

    def seen(self, kind: str) -> list[Item]:
        """Everything of a kind that the project sees, also what others share with it, listed once in a session."""
        rows: list[Item] = self._session.remembered(f"neutron {kind} seen", lambda: self.all(kind))
        return rows

    def show(self, kind: str, ident: str) -> Item:
        """One thing."""
        answer = self._network.get(f"/{_path(kind)}/{ident}", raise_exc=True).json()
        found: Item = answer[_one(kind)]
        return found

    def find(self, kind: str, tag: str) -> str | None:
        """The id of what was made with a tag."""
        rows = self.all(kind, description=tag, project_id=self._session.project_id)
        return str(rows[0]["id"]) if rows else None

    def create(self, kind: str, body: Item) -> Item:
        """Make one thing."""
        made: Item = self._network.post(f"/{_path(kind)}", json={_one(kind): body}, raise_exc=True).json()[_one(kind)]
        return made

    def create_rules(self, rules: list[Item]) -> None:
        """Make rules of security groups, all or none."""
        self._network.post("/security-group-rules", json={"security_group_rules": rules}, raise_exc=True)

    def update(self, kind: str, ident: str, **changes: Any) -> Item:
        """Change what is named."""
        answer = self._network.put(f"/{_path(kind)}/{ident}", json={_one(kind): changes}, raise_exc=True).json()
        changed: Item = answer[_one(kind)]
        return changed

    def set_tags(self, kind: str, ident: str, tags: list[str]) -> None:
        """Replace the tags of a thing."""
        self._network.put(f"/{_path(kind)}/{ident}/tags", json={"tags": tags}, raise_exc=True)

    def delete(self, kind: str, ident: str) -> None:
        """Remove one thing; one that is gone is as good."""
        try:
            self._network.delete(f"/{_path(kind)}/{ident}", raise_exc=True)
        except NotFound:
            return

    def connect(self, router: str, **end: str) -> str:
        """Give a router an interface, by subnet_id or port_id; returns the id of its port."""
        answer = self._network.put(f"/routers/{router}/add_router_interface", json=end, raise_exc=True).json()
        return str(answer["port_id"])

    def disconnect(self, router: str, port: str) -> None:
        """Take an interface from a router, and with it the port; one that is gone is as good."""
        try:
            self._network.put(f"/routers/{router}/remove_router_interface", json={"port_id": port}, raise_exc=True)
        except NotFound:
            return

    def quota(self) -> dict[str, int]:
        """What is left of each quota; without limit where there is none."""
        answer = self._network.get(f"/quotas/{self._session.project_id}/details", raise_exc=True).json()["quota"]
        return {
            name: row["limit"] - row["used"] - row.get("reserved", 0) if row["limit"] >= 0 else 1 << 62
            for name, row in answer.items()
        }


def _path(kind: str) -> str:
    return _PATHS.get(kind, kind)


def _one(kind: str) -> str:
    return _KEYS.get(kind, kind).removesuffix("s")
