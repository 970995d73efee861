"""The route table: one row per method and path. Router, validation, policy, OpenAPI and generated tests read it."""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from karbor.api import (
    checkpoints,
    content,
    openapi,
    operation_logs,
    plans,
    protectables,
    providers,
    public,
    restores,
    verifications,
)
from karbor.api.route import PAGE, TENANTS, Call, Content, Nothing, RawPath, Route
from karbor.api.routes_administration import QUOTAS, SERVICES
from karbor.api.routes_schedules import SCHEDULED_OPERATIONS, TRIGGERS
from karbor.wire import administration, answers, requests
from karbor.wire.fields import Text

if TYPE_CHECKING:
    from karbor.protection.service import ProtectionService

_RECORDS = {**PAGE, **TENANTS, "status": Text}
_INSTANCE = {"parameters": Annotated[Text, Meta(description="Text of a Python mapping; kept for old clients.")]}
_PLACE = {
    "resource": Annotated[str, Meta(min_length=1, max_length=1024, description="Resource key: type#id.")],
    "path": RawPath,
}
_CHECKPOINTS = "/providers/{provider_id}/checkpoints"
_CHECKPOINT = _CHECKPOINTS + "/{checkpoint_id}"


def show_openapi(service: ProtectionService, call: Call) -> dict[str, Any]:
    """The OpenAPI document of this table."""
    del service  # the same whatever the service holds
    return {**_document(), "servers": [{"url": call.url}]}


@functools.cache
def _document() -> dict[str, Any]:
    return openapi.document(ROUTES)


_PUBLIC = (
    Route(
        method="GET",
        path="/",
        handler=public.list_versions,
        summary="List the versions of the API",
        key="versions",
        reply=list[answers.Version],
        status=300,
        public=True,
    ),
    Route(
        method="GET",
        path="/healthcheck",
        handler=public.show_health,
        summary="Whether the service answers and reaches its database",
        reply=answers.Health,
        since="v2",
        public=True,
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=show_openapi,
        summary="This document",
        reply=dict[str, Any],
        since="v2",
        public=True,
    ),
    Route(
        method="GET",
        path="/v1",
        handler=public.show_version,
        summary="Show this version of the API",
        key="version",
        reply=answers.Version,
        public=True,
    ),
)

_PROTECTABLES = (
    Route(
        method="GET",
        path="/protectables",
        handler=protectables.list_types,
        summary="List resource types",
        rule="protectable:get_all",
        key="protectable_type",
        reply=list[str],
    ),
    Route(
        method="GET",
        path="/protectables/{type}",
        handler=protectables.show_type,
        summary="Show a resource type",
        rule="protectable:get",
        key="protectable_type",
        reply=answers.ProtectableType,
    ),
    Route(
        method="GET",
        path="/protectables/{type}/instances",
        handler=protectables.list_instances,
        asks_cloud=True,
        summary="List resources of a type",
        rule="protectable:instance_get_all",
        key="instances",
        reply=answers.Instance,
        page=True,
        query={**PAGE, **_INSTANCE},
    ),
    Route(
        method="GET",
        path="/protectables/{type}/instances/{instance}",
        handler=protectables.show_instance,
        asks_cloud=True,
        summary="Show a resource",
        rule="protectable:instance_get",
        key="instance",
        reply=answers.Instance,
        query=_INSTANCE,
    ),
)

_PROVIDERS = (
    Route(
        method="GET",
        path="/providers",
        handler=providers.list_providers,
        summary="List providers",
        rule="provider:get_all",
        key="providers",
        reply=answers.Provider,
        page=True,
        query={**PAGE, "name": Text, "description": Text},
    ),
    Route(
        method="GET",
        path="/providers/{provider_id}",
        handler=providers.show_provider,
        summary="Show a provider",
        rule="provider:get",
        key="provider",
        reply=answers.Provider,
    ),
    Route(
        method="GET",
        path="/provider_problems",
        handler=providers.list_problems,
        summary="List files of providers that cannot be used",
        rule="provider:get_problems",
        key="problems",
        reply=dict[str, str],
        since="v2",
    ),
)

_PLANS = (
    Route(
        method="GET",
        path="/plans",
        handler=plans.list_plans,
        summary="List plans",
        rule="plan:get_all",
        key="plans",
        reply=answers.Plan,
        page=True,
        query={**_RECORDS, "name": Text, "description": Text},
    ),
    Route(
        method="POST",
        path="/plans",
        handler=plans.create_plan,
        summary="Create a plan",
        rule="plan:create",
        key="plan",
        reply=answers.Plan,
        body=requests.PlanCreate,
        body_key="plan",
    ),
    Route(
        method="GET",
        path="/plans/{plan_id}",
        handler=plans.show_plan,
        summary="Show a plan",
        rule="plan:get",
        key="plan",
        reply=answers.Plan,
    ),
    Route(
        method="PUT",
        path="/plans/{plan_id}",
        handler=plans.update_plan,
        summary="Change a suspended plan",
        rule="plan:update",
        key="plan",
        reply=answers.Plan,
        body=requests.PlanUpdate,
        body_key="plan",
        faults=(409,),
    ),
    Route(
        method="DELETE",
        path="/plans/{plan_id}",
        handler=plans.delete_plan,
        summary="Delete a plan",
        rule="plan:delete",
    ),
)

_CHECKPOINT_ROUTES = (
    Route(
        method="GET",
        path=_CHECKPOINTS,
        handler=checkpoints.list_checkpoints,
        summary="List checkpoints",
        rule="provider:checkpoint_get_all",
        key="checkpoints",
        reply=answers.Checkpoint,
        page=True,
        query={**_RECORDS, "plan_id": Text, "start_date": dt.date, "end_date": dt.date},
        unchecked=("provider_id",),
    ),
    Route(
        method="POST",
        path=_CHECKPOINTS,
        handler=checkpoints.create_checkpoint,
        preflight=checkpoints.preflight_checkpoint,
        summary="Protect a plan",
        rule="provider:checkpoint_create",
        rules_of_call=checkpoints.rules,
        key="checkpoint",
        reply=answers.Checkpoint,
        body=requests.CheckpointCreate,
        body_key="checkpoint",
        faults=(409,),
    ),
    Route(
        method="POST",
        path=_CHECKPOINTS + "/action",
        handler=checkpoints.copy_checkpoints,
        summary="Copy the checkpoints of a plan",
        rule="copy:create",
        key="copy",
        reply=administration.Copy,
        body=administration.CopyCreate,
        body_key="copy",
        faults=(501,),
    ),
    Route(
        method="GET",
        path=_CHECKPOINT,
        handler=checkpoints.show_checkpoint,
        summary="Show a checkpoint",
        rule="provider:checkpoint_get",
        key="checkpoint",
        reply=answers.Checkpoint,
    ),
    Route(
        method="PUT",
        path=_CHECKPOINT,
        handler=checkpoints.reset_checkpoint,
        summary="Set the status of a checkpoint by hand",
        rule="provider:checkpoint_update",
        reply=Nothing,
        body=requests.CheckpointReset,
        body_key="os-resetState",
        faults=(409,),
    ),
    Route(
        method="DELETE",
        path=_CHECKPOINT,
        handler=checkpoints.delete_checkpoint,
        summary="Delete a checkpoint",
        rule="provider:checkpoint_delete",
        reply=Nothing,
        faults=(409,),
    ),
    Route(
        method="POST",
        path=_CHECKPOINT + "/action",
        handler=checkpoints.act_on_checkpoint,
        summary="Stop the work on a checkpoint, or bring a deleted one back",
        rules_of_body=checkpoints.action_rules,
        rule="provider:checkpoint_action",
        reply=Nothing,
        body=requests.CheckpointAction,
        faults=(409,),
        since="v2",
    ),
    Route(
        method="GET",
        path=_CHECKPOINT + "/progress",
        handler=checkpoints.checkpoint_progress,
        summary="Show how far the work on a checkpoint is",
        rule="provider:checkpoint_get",
        key="progress",
        reply=answers.Progress,
        since="v2",
    ),
    Route(
        method="GET",
        path=_CHECKPOINT + "/entries",
        handler=content.list_entries,
        summary="List what lies in a resource of a checkpoint",
        rule="provider:checkpoint_entries",
        key="entries",
        reply=list[answers.Entry],
        query=_PLACE,
        required=("resource",),
        faults=(409,),
        since="v2",
    ),
    Route(
        method="GET",
        path=_CHECKPOINT + "/content",
        handler=content.read_content,
        summary="Read bytes of a resource of a checkpoint; takes a Range of bytes",
        rule="provider:checkpoint_content",
        reply=Content,
        query=_PLACE,
        required=("resource",),
        faults=(409, 416),
        since="v2",
    ),
)

_RESTORES = (
    Route(
        method="GET",
        path="/restores",
        handler=restores.list_restores,
        summary="List restores",
        rule="restore:get_all",
        key="restores",
        reply=answers.Restore,
        page=True,
        query={**_RECORDS, "checkpoint_id": Text, "provider_id": Text},
    ),
    Route(
        method="POST",
        path="/restores",
        handler=restores.create_restore,
        preflight=restores.preflight_restore,
        summary="Restore a checkpoint or a part of it",
        rule="restore:create",
        rules_of_body=restores.rules,
        key="restore",
        reply=answers.Restore,
        body=requests.RestoreCreate,
        body_key="restore",
        faults=(409,),
    ),
    Route(
        method="GET",
        path="/restores/{restore_id}",
        handler=restores.show_restore,
        summary="Show a restore",
        rule="restore:get",
        key="restore",
        reply=answers.Restore,
    ),
    Route(
        method="GET",
        path="/restores/{restore_id}/progress",
        handler=restores.restore_progress,
        summary="Show how far a restore is",
        rule="restore:get",
        key="progress",
        reply=answers.Progress,
        since="v2",
    ),
    Route(
        method="POST",
        path="/restores/{restore_id}/action",
        handler=restores.cancel_restore,
        summary="Stop a restore",
        rule="restore:update",
        reply=Nothing,
        body=requests.Cancel,
        faults=(409,),
        since="v2",
    ),
)

_VERIFICATIONS = (
    Route(
        method="GET",
        path="/verifications",
        handler=verifications.list_verifications,
        summary="List verifications",
        rule="verification:get_all",
        key="verifications",
        reply=answers.Verification,
        page=True,
        query={**_RECORDS, "checkpoint_id": Text, "provider_id": Text},
    ),
    Route(
        method="POST",
        path="/verifications",
        handler=verifications.create_verification,
        summary="Read a checkpoint back and prove it",
        rule="verification:create",
        key="verification",
        reply=answers.Verification,
        body=requests.VerificationCreate,
        body_key="verification",
        faults=(409,),
    ),
    Route(
        method="GET",
        path="/verifications/{verification_id}",
        handler=verifications.show_verification,
        summary="Show a verification",
        rule="verification:get",
        key="verification",
        reply=answers.Verification,
    ),
    Route(
        method="GET",
        path="/verifications/{verification_id}/progress",
        handler=verifications.verification_progress,
        summary="Show how far a verification is",
        rule="verification:get",
        key="progress",
        reply=answers.Progress,
        since="v2",
    ),
    Route(
        method="POST",
        path="/verifications/{verification_id}/action",
        handler=verifications.cancel_verification,
        summary="Stop a verification",
        rule="verification:update",
        reply=Nothing,
        body=requests.Cancel,
        faults=(409,),
        since="v2",
    ),
)

_OPERATION_LOGS = (
    Route(
        method="GET",
        path="/operation_logs",
        handler=operation_logs.list_operation_logs,
        summary="List what was done",
        rule="operation_log:list",
        key="operation_logs",
        reply=answers.OperationLog,
        page=True,
        query={
            **_RECORDS,
            **dict.fromkeys(("checkpoint_id", "plan_id", "restore_id", "operation_type", "provider_id"), Text),
        },
    ),
    Route(
        method="GET",
        path="/operation_logs/{operation_log_id}",
        handler=operation_logs.show_operation_log,
        summary="Show what was done",
        rule="operation_log:get",
        key="operation_log",
        reply=answers.OperationLog,
    ),
)

ROUTES: tuple[Route, ...] = (
    *_PUBLIC,
    *_PROTECTABLES,
    *_PROVIDERS,
    *_PLANS,
    *_CHECKPOINT_ROUTES,
    *_RESTORES,
    *_VERIFICATIONS,
    *_OPERATION_LOGS,
    *TRIGGERS,
    *SCHEDULED_OPERATIONS,
    *QUOTAS,
    *SERVICES,
)
