"""Rows of the route table: quotas, quota classes and the service's own programs."""

from __future__ import annotations

from karbor.api import quotas, services
from karbor.api.route import Route
from karbor.wire import administration as wire
from karbor.wire.fields import Text

_QUOTA = "/quotas/{project}"
_CLASS = "/quota_classes/{name}"

QUOTAS = (
    Route(
        method="GET",
        path=_QUOTA,
        handler=quotas.show_quota,
        service="quotas",
        summary="Show the limits of a project",
        rule="quota:get",
        key="quota",
        reply=wire.Quota,
    ),
    Route(
        method="GET",
        path=_QUOTA + "/detail",
        handler=quotas.show_quota_detail,
        service="quotas",
        summary="Show the limits of a project and what is in use",
        rule="quota:get",
        key="quota",
        reply=wire.QuotaDetail,
    ),
    Route(
        method="GET",
        path=_QUOTA + "/defaults",
        handler=quotas.show_quota_defaults,
        service="quotas",
        summary="Show the limits of projects that have none of their own",
        rule="quota:get_default",
        key="quota",
        reply=wire.Quota,
    ),
    Route(
        method="PUT",
        path=_QUOTA,
        handler=quotas.update_quota,
        service="quotas",
        summary="Give a project limits of its own",
        rule="quota:update",
        key="quota",
        reply=wire.Quota,
        body=wire.QuotaUpdate,
        body_key="quota",
    ),
    Route(
        method="DELETE",
        path=_QUOTA,
        handler=quotas.delete_quota,
        service="quotas",
        summary="Let the defaults hold for a project again",
        rule="quota:delete",
    ),
    Route(
        method="GET",
        path=_CLASS,
        handler=quotas.show_quota_class,
        service="quotas",
        summary="Show the limits of a class",
        rule="quota_class:get",
        key="quota_class",
        reply=wire.Quota,
    ),
    Route(
        method="PUT",
        path=_CLASS,
        handler=quotas.update_quota_class,
        service="quotas",
        summary="Change the limits of a class",
        rule="quota_class:update",
        key="quota_class",
        reply=wire.Quota,
        body=wire.QuotaUpdate,
        body_key="quota_class",
    ),
)

SERVICES = (
    Route(
        method="GET",
        path="/os-services",
        handler=services.list_services,
        service="programs",
        summary="List the programs of the service by host",
        rule="service:get_all",
        key="services",
        reply=list[wire.Service],
        query={"host": Text, "binary": Text},
    ),
    Route(
        method="PUT",
        path="/os-services/{service}",
        handler=services.update_service,
        service="programs",
        summary="Enable or disable a program on a host",
        rule="service:update",
        key="service",
        reply=wire.Service,
        body=wire.ServiceUpdate,
    ),
)
