"""Nova as this package speaks with it: plain JSON at one microversion, so that nothing is lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.errors import NotFound

if TYPE_CHECKING:
    from karbor.sdk.cloud import CloudSession

VERSION = "2.79"
"""Of Nova's train release: tags, descriptions, server groups, and attachments that say whether they end with it."""


class Nova:
    """A session's compute service."""

    def __init__(self, session: CloudSession) -> None:
        self._compute = session.connection.compute

    def get(self, path: str) -> Any:
        """The document at a path."""
        return self._compute.get(path, microversion=VERSION, raise_exc=True).json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What is answered to a document; None where that is nothing."""
        answer = self._compute.post(path, json=body, microversion=VERSION, raise_exc=True)
        return answer.json() if answer.content else None

    def delete(self, path: str) -> None:
        """Remove what is at a path; what is gone is as good."""
        try:
            self._compute.delete(path, raise_exc=True)
        except NotFound:
            return

    def server(self, ident: str) -> dict[str, Any]:
        """One server."""
        found: dict[str, Any] = self.get(f"/servers/{ident}")["server"]
        return found

    def action(self, ident: str, name: str, body: dict[str, Any] | None = None) -> Any:
        """Ask a server to do something."""
        return self.post(f"/servers/{ident}/action", {name: body})

    def with_tag(self, tag: str) -> str | None:
        """The id of the server that was made with a tag."""
        found = self.get(f"/servers?tags={tag}")["servers"]
        return str(found[0]["id"]) if found else None

    def flavors(self) -> dict[str, dict[str, Any]]:
        """Flavors by name."""
        found: dict[str, dict[str, Any]] = {}
        path = "/flavors/detail?limit=1000"
        while True:
            rows = self.get(path)["flavors"]
            found |= {row["name"]: row for row in rows}
            if len(rows) < 1000:
                return found
            path = f"/flavors/detail?limit=1000&marker={rows[-1]['id']}"
