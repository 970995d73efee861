"""Who may do what: v1's rule names with today's default roles, decided by oslo.policy.

Operators override rules in their policy file; `list_rules` feeds ``oslopolicy-sample-generator`` and the reference.
A rule is checked against the caller's own project: what belongs to others is kept apart by the catalogue's scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from oslo_policy import policy as oslo

from karbor.errors import Forbidden

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts

    from karbor.domain.context import Caller

READER = "rule:project_reader"
MEMBER = "rule:project_member"
ADMIN = "rule:admin_api"
ANYONE = "@"

_BASE = (
    ("context_is_admin", "role:admin", "Who is an administrator."),
    ("admin_api", "is_admin:True", "Administrators."),
    ("owner", "project_id:%(project_id)s", "Anyone of the project, whatever the role."),
    ("admin_or_owner", "rule:admin_api or rule:owner", "v1's default: any role in the project."),
    (
        "project_reader",
        "rule:admin_api or (rule:owner and (role:reader or role:member or role:manager))",
        "May look at what the project has.",
    ),
    (
        "project_member",
        "rule:admin_api or (rule:owner and (role:member or role:manager))",
        "May protect, restore and delete.",
    ),
    ("project_manager", "rule:admin_api or (rule:owner and role:manager)", "May decide for the project."),
    ("default", "rule:project_member", "Where a rule is missing."),
)

_RULES = (
    ("protectable:get_all", READER, "List resource types."),
    ("protectable:get", READER, "Show a resource type."),
    ("protectable:instance_get_all", READER, "List resources of a type."),
    ("protectable:instance_get", READER, "Show a resource."),
    ("provider:get_all", READER, "List providers."),
    ("provider:get", READER, "Show a provider."),
    ("provider:get_problems", ADMIN, "List files of providers that cannot be used."),
    ("provider:checkpoint_get_all", READER, "List checkpoints."),
    ("provider:checkpoint_get", READER, "Show a checkpoint and its progress."),
    ("provider:checkpoint_create", MEMBER, "Protect a plan, or ask what that would do."),
    ("provider:checkpoint_delete", MEMBER, "Delete a checkpoint."),
    ("provider:checkpoint_update", MEMBER, "Set the status of a checkpoint by hand."),
    ("provider:checkpoint_action", MEMBER, "Act on a checkpoint; one of the next two is checked beside it."),
    ("provider:checkpoint_cancel", MEMBER, "Stop the work on a checkpoint."),
    ("provider:checkpoint_undelete", MEMBER, "Bring a deleted checkpoint back."),
    ("copy:create", MEMBER, "Copy the checkpoints of a plan."),
    (
        "provider:checkpoint_commands",
        MEMBER,
        "Protect an application whose declaration has commands; checked beside provider:checkpoint_create.",
    ),
    ("provider:checkpoint_entries", MEMBER, "List the files in a checkpoint."),
    ("provider:checkpoint_content", MEMBER, "Read the bytes in a checkpoint."),
    ("plan:get_all", READER, "List plans."),
    ("plan:get", READER, "Show a plan."),
    ("plan:create", MEMBER, "Create a plan."),
    ("plan:update", MEMBER, "Change a plan."),
    ("plan:delete", MEMBER, "Delete a plan."),
    ("restore:get_all", READER, "List restores."),
    ("restore:get", READER, "Show a restore and its progress."),
    ("restore:create", MEMBER, "Restore a checkpoint, or ask what that would do."),
    ("restore:overwrite", MEMBER, "Restore over what exists; checked beside restore:create."),
    ("restore:update", MEMBER, "Stop a restore."),
    ("verification:get_all", READER, "List verifications."),
    ("verification:get", READER, "Show a verification and its progress."),
    ("verification:create", MEMBER, "Verify a checkpoint."),
    ("verification:update", MEMBER, "Stop a verification."),
    ("operation_log:list", READER, "List what was done."),
    ("operation_log:get", READER, "Show what was done."),
    ("trigger:list", READER, "List triggers."),
    ("trigger:get", READER, "Show a trigger and when it fires."),
    ("trigger:create", MEMBER, "Create a trigger."),
    ("trigger:update", MEMBER, "Change a trigger."),
    ("trigger:delete", MEMBER, "Delete a trigger."),
    ("scheduled_operation:list", READER, "List scheduled operations."),
    ("scheduled_operation:get", READER, "Show a scheduled operation."),
    ("scheduled_operation:create", MEMBER, "Schedule an operation."),
    ("scheduled_operation:delete", MEMBER, "Delete a scheduled operation."),
    ("quota:get", READER, "Show the limits of the own project and what is in use; of any project as an administrator."),
    ("quota:get_default", READER, "Show the limits of projects that have none of their own."),
    ("quota:update", ADMIN, "Give a project limits of its own."),
    ("quota:delete", ADMIN, "Let the defaults hold for a project again."),
    ("quota_class:get", ADMIN, "Show the limits of a class."),
    ("quota_class:update", ADMIN, "Change the limits of a class."),
    ("service:get_all", ADMIN, "List the programs of the service by host."),
    ("service:update", ADMIN, "Enable or disable a program on a host."),
)


class Policy(Protocol):
    """Decides about callers."""

    def is_admin(self, caller: Caller) -> bool:
        """Whether the caller is an administrator."""
        ...

    def check(self, rule: str, caller: Caller) -> None:
        """Raise `Forbidden` where the rule denies the caller."""
        ...


class OsloPolicy:
    """The rules of this module, overridden by the policy file that `conf` names."""

    def __init__(self, conf: ConfigOpts) -> None:
        self._enforcer = oslo.Enforcer(conf)
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.register_defaults(list_rules())
        self._enforcer.load_rules()

    def is_admin(self, caller: Caller) -> bool:
        """Whether `context_is_admin` holds for the caller's roles."""
        return bool(self._enforcer.enforce("context_is_admin", {}, _credentials(caller)))

    def check(self, rule: str, caller: Caller) -> None:
        """Raise `Forbidden` where the rule denies the caller; `caller.is_admin` must have been decided."""
        target = {"project_id": caller.project_id, "user_id": caller.user_id}
        if not self._enforcer.enforce(rule, target, _credentials(caller)):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")


def _credentials(caller: Caller) -> dict[str, Any]:
    return {
        "user_id": caller.user_id,
        "project_id": caller.project_id,
        "roles": list(caller.roles),
        "is_admin": caller.is_admin,
        "domain_id": caller.domain_id,
    }


def list_rules() -> list[Any]:
    """Every rule with its default, for oslo.policy's tools."""
    from karbor.api.routes import ROUTES  # noqa: PLC0415 - the table names rules, the rules name the table's paths

    by_rule: dict[str, list[oslo.Operation]] = {}
    for route in ROUTES:
        by_rule.setdefault(route.rule, []).append(oslo.Operation(method=route.method, path=route.template))
    rules: list[Any] = [oslo.RuleDefault(name, check, description) for name, check, description in _BASE]
    for name, check, description in _RULES:
        operations = by_rule.get(name) or by_rule[_BESIDE[name]]
        rules.append(oslo.DocumentedRuleDefault(name, check, description, operations))
    return rules


_BESIDE = {
    "provider:checkpoint_commands": "provider:checkpoint_create",
    "restore:overwrite": "restore:create",
    "provider:checkpoint_cancel": "provider:checkpoint_action",
    "provider:checkpoint_undelete": "provider:checkpoint_action",
}
"""Rules that are checked beside a route's own."""
