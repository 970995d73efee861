"""What a row of the route table says, and what a handler is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from karbor.domain.context import Caller
from karbor.protection.catalogue import MAX_LIMIT
from karbor.wire import envelope
from karbor.wire.fields import Text

if TYPE_CHECKING:
    from karbor.protection.programs import Programs
    from karbor.protection.quotas import Quotas
    from karbor.protection.service import ProtectionService
    from karbor.schedule.service import ScheduleService

Method = Literal["GET", "POST", "PUT", "DELETE"]
Since = Literal["v1", "v2"]
QueryTypes = Mapping[str, Any]
Position = Annotated[int, Meta(ge=0, le=2**31 - 1)]
RawPath = Annotated[str, Meta(max_length=8192, description="May hold percent-encoded bytes that are not UTF-8.")]
"""A path in a checkpoint."""

PAGE: QueryTypes = {
    "limit": Annotated[int, Meta(ge=1, description=f"At most {MAX_LIMIT}, which is the default.")],
    "marker": Annotated[Text, Meta(description="Id of the last item of the page before.")],
    "offset": Position,
    "sort": Annotated[Text, Meta(description="key[:asc|desc][,…]; desc where nothing is said.")],
    "sort_key": Text,
    "sort_dir": Text,
}
"""What every collection takes."""

TENANTS: QueryTypes = {
    "all_tenants": Annotated[Text, Meta(description="For administrators: every project.")],
    "project_id": Annotated[Text, Meta(description="With all_tenants: this project only.")],
}


class Nothing(msgspec.Struct, frozen=True):
    """``{}``: done, and there is nothing to say."""


class Content(msgspec.Struct, frozen=True):
    """Raw bytes as an answer: `read(offset, length)` of something of `size` bytes."""

    read: Callable[[int, int], bytes]
    size: int


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request after authentication, parsing and policy."""

    caller: Caller
    path: dict[str, str]
    query: dict[str, Any]
    """Declared parameters that were given, by name, converted."""
    unknown: tuple[str, ...] = ()
    """Names of the query parameters that the route does not declare."""
    body: Any = None
    url: str = ""
    """The address of the service, with the mount point and without a slash at the end."""
    max_limit: int = MAX_LIMIT


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What handlers call; a row names one of them."""

    protection: "ProtectionService"
    schedules: "ScheduleService"
    quotas: "Quotas"
    programs: "Programs"


ServiceName = Literal["protection", "schedules", "quotas", "programs"]
Handler = Callable[[Any, Call], Any]
"""Called with the service that the row names."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row: everything that router, validation, policy, OpenAPI and generated tests need to know.

    `path` follows ``/v1/{project_id}`` unless the route is `public`. Path elements named ``…_id`` must be UUIDs,
    except the project's and those in `unchecked`. With `page` the handler returns a list, and `key` is the plural.
    """

    method: Method
    path: str
    handler: Handler
    service: ServiceName = "protection"
    summary: str
    rule: str = ""
    rules_of_body: Callable[[Any], tuple[str, ...]] | None = None
    """Further rules that must allow what a certain body asks for."""
    rules_of_call: Callable[[Any, Call], tuple[str, ...]] | None = None
    """The same where only the service knows what the body's words stand for."""
    key: str = ""
    """The envelope of the answer."""
    reply: Any = None
    """Type inside the envelope; `Nothing`, `Content`, or None for an empty body."""
    page: bool = False
    body: type[msgspec.Struct] | None = None
    body_key: str = ""
    """The envelope of the request; none where empty."""
    query: QueryTypes = {}
    required: tuple[str, ...] = ()
    """Query parameters that must be given."""
    preflight: Handler | None = None
    """Answers instead of `handler` where the query says ``dry_run=true``."""
    faults: tuple[int, ...] = ()
    """Statuses that this route may answer with, beyond those any route may."""
    unchecked: tuple[str, ...] = ()
    asks_cloud: bool = False
    """Whether it waits for a foreign service, as every dry run does, so that only some of these may run at once."""
    since: Since = "v1"
    public: bool = False
    status: int = 200

    @property
    def query_types(self) -> QueryTypes:
        """Every query parameter."""
        return {**self.query, "dry_run": bool} if self.preflight else self.query

    @property
    def template(self) -> str:
        """The whole path."""
        return self.path if self.public else "/v1/{project_id}" + self.path

    @property
    def request_type(self) -> type[msgspec.Struct] | None:
        """The body with its envelope."""
        return envelope.one(self.body_key, self.body) if self.body and self.body_key else self.body

    @property
    def reply_type(self) -> Any:
        """The answer with its envelope; None where there is no JSON document."""
        if self.reply is None or self.reply is Content:
            return None
        if not self.key:
            return self.reply
        return (envelope.page if self.page else envelope.one)(self.key, self.reply)
