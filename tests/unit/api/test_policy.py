from __future__ import annotations

import msgspec
import pytest
from oslo_config import cfg

from karbor.api.policy import OsloPolicy, list_rules
from karbor.api.routes import ROUTES
from karbor.domain.context import Caller
from karbor.errors import Forbidden


def caller(*roles, admin=False):
    return Caller(user_id="u", project_id="p", roles=roles, is_admin=admin)


def test_every_route_below_a_project_has_a_rule_and_every_rule_a_route():
    names = {rule.name for rule in list_rules()}
    assert all(route.rule in names for route in ROUTES if not route.public)
    for rule in list_rules():
        assert not hasattr(rule, "operations") or rule.operations


def test_who_is_an_administrator(policy):
    assert policy.is_admin(caller("admin"))
    assert not policy.is_admin(caller("member", "manager"))


@pytest.mark.parametrize(
    ("rule", "roles", "allowed"),
    [
        ("plan:get", ("reader",), True),
        ("plan:create", ("reader",), False),
        ("plan:create", ("member",), True),
        ("plan:create", ("manager",), True),
        ("plan:get", ("swiftoperator",), False),
        ("restore:overwrite", ("reader",), False),
    ],
)
def test_default_roles(policy, rule, roles, allowed):
    if allowed:
        policy.check(rule, caller(*roles))
    else:
        with pytest.raises(Forbidden, match=rule):
            policy.check(rule, caller(*roles))


def test_operators_override_rules(tmp_path):
    (tmp_path / "policy.yaml").write_text('"restore:overwrite": "rule:project_manager"\n')
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    from oslo_policy import opts

    opts.set_defaults(conf, policy_file=str(tmp_path / "policy.yaml"))
    policy = OsloPolicy(conf)
    policy.check("restore:overwrite", caller("manager"))
    with pytest.raises(Forbidden):
        policy.check("restore:overwrite", caller("member"))


def test_overwriting_is_checked_beside_restoring(app, service, send):
    body = {"provider_id": "1" * 32, "checkpoint_id": "2" * 32, "parameters": {"OS::X": {"overwrite": "True"}}}
    route = next(route for route in ROUTES if route.rule == "restore:create")
    decoded = msgspec.convert(body, route.body)
    assert route.rules_of_body(decoded) == ("restore:overwrite",)
    assert route.rules_of_body(msgspec.structs.replace(decoded, parameters={})) == ()


def test_running_declared_commands_takes_a_right_of_its_own() -> None:
    route = next(each for each in ROUTES if each.rule == "provider:checkpoint_create")

    class Service:
        def __init__(self, answer: bool) -> None:
            self.answer = answer

        def runs_commands(self, _caller, _plan_id) -> bool:
            return self.answer

    class Body:
        plan_id = "p"

    class ACall:
        caller, body = None, Body

    assert route.rules_of_call(Service(True), ACall) == ("provider:checkpoint_commands",)
    assert route.rules_of_call(Service(False), ACall) == ()
