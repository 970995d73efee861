"""Waiting for things in a cloud without holding a thread, finding them by their tag, and removing them for sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karbor.errors import NotFound, ResourceFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from karbor.sdk.op import Op

TAG = "karbor"
"""The metadata key under which things carry the tag of what made them."""
TEMPORARY = {"karbor-temporary": "yes"}
"""Marks what is not the tenant's, so that no inventory lists it."""


class Pace:
    """How often and how long to wait, from a plugin's options ``poll_interval`` and ``deadline``, in seconds."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.every = float(options.get("poll_interval", 2.0))
        self.deadline = float(options.get("deadline", 86400.0))

    def until(
        self, op: Op, name: str, get: Callable[[], Any], good: Collection[str], passing: Collection[str]
    ) -> dict[str, Any]:
        """Wait until the thing's status is one of `good`; any status that is neither good nor `passing` fails.
        Returns the status, and whatever the service says of a failure is in the error."""

        def check() -> dict[str, Any] | None:
            item = get()
            status = str(item.status).lower()
            if status in good:
                return {"status": status}
            if status in passing:
                return None
            why = getattr(item, "fail_reason", None) or getattr(item, "fault", None) or ""
            raise ResourceFailed(f"{name} {item.id} became {status} {why}".rstrip())

        return op.poll(check, every=self.every, deadline=self.deadline, name=name)

    def gone(
        self,
        op: Op,
        name: str,
        get: Callable[[], Any],
        delete: Callable[[], Any],
        busy: Collection[str] = (),
    ) -> None:
        """Delete the thing and wait until it is gone; while its status is one of `busy` it cannot be deleted yet."""

        def check() -> bool | None:
            try:
                item = get()
                status = str(item.status).lower()
                if status.startswith("error_") and "delet" in status:
                    raise ResourceFailed(f"{name} {item.id} cannot be deleted: it is {status}")
                if status not in {"deleting", *busy}:
                    delete()
            except NotFound:
                return True
            return None

        op.poll(check, every=self.every, deadline=self.deadline, name=f"{name} gone")


def tagged(items: Iterable[Any], tag: str) -> str | None:
    """The id of the thing whose metadata bear the tag."""
    return next((str(item.id) for item in items if (item.metadata or {}).get(TAG) == tag), None)


def leftover(op: Op, name: str, find: Callable[[str], str | None]) -> str | None:
    """What `op.once` made under a name in an earlier hook, also where its answer was never seen. For undo hooks."""
    return op.once(name, lambda _tag: None, find)


def image_id_of(tag: str) -> str:
    """The id of an image made for a tag: Glance lets the client choose it, so that it can be found again."""
    return tag.removeprefix("karbor-")
