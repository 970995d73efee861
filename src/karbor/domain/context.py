"""Who asks: the caller of a request or the one on whose behalf a run works."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The authenticated caller. `is_admin` is the policy's answer, not a role name."""

    user_id: str
    project_id: str
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    request_id: str = ""
    user_name: str = ""
    project_name: str = ""
    domain_id: str = ""
