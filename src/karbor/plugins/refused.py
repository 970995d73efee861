"""Types whose plugins v1 had and this service has not yet shown on a real one: their schemas are there, their operations
are refused by name when a plan is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from karbor.domain.resource import DATABASE, POD
from karbor.sdk.protection import Protection
from karbor.sdk.schema import NoOptions

if TYPE_CHECKING:
    from collections.abc import Mapping


class BackupOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What v1 offered for a database."""

    backup_name: Annotated[str | None, msgspec.Meta(title="Backup Name", description="The name of the backup.")] = None
    description: Annotated[
        str | None, msgspec.Meta(title="Description", description="The description of the backup.")
    ] = None


class NamedRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What v1 offered for a restore."""

    restore_name: Annotated[str | None, msgspec.Meta(title="Restore Name", description="The new name.")] = None


class DatabaseProtection(Protection):
    """Trove's instances."""

    name = "karbor-database-protection-plugin"
    section = "database_backup_plugin"
    types = (DATABASE,)
    operations = frozenset()
    protect_options = BackupOptions
    restore_options = NamedRestore

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options


class PodProtection(Protection):
    """Kubernetes' pods."""

    name = "karbor-pod-protection-plugin"
    section = "pod_backup_protection_plugin"
    types = (POD,)
    operations = frozenset()
    protect_options = NoOptions
    restore_options = NamedRestore

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options
