"""python-karborclient 2.1.0 from PyPI, unmodified, in an environment of its own: every command of its shell and its
`openstack data protection` plugin that this service has routes for."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from karbor.api.routes import ROUTES

HERE = Path(__file__).parent
WIRE_SERVER = HERE.parent / "wire" / "server.py"
P = "1" * 32
N = "b766f37c-d011-4026-8228-28730d734a3f"
VOLUME = "a1a1a1a1-0000-4000-8000-000000000001"
RESOURCE = f'{VOLUME}=OS::Cinder::Volume=vol1={{"availability_zone":"nova"}}'
# Its dependencies import pkg_resources, which later setuptools no longer have; its plugin formats columns in a way
# that later versions of osc-lib refuse.
PACKAGES = ["python-karborclient==2.1.0", "python-openstackclient==6.0.0", "osc-lib==2.8.1", "setuptools<81"]
UUID = re.compile(r"\| id +\| ([0-9a-f-]{36}) +\|")


@pytest.fixture(scope="session")
def environment(request):
    """The old client's Python, kept between runs."""
    folder = request.config.cache.mkdir("old-client-2.1.0")
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        install = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True, check=False
        )
        assert install.returncode == 0, f"the old client cannot be installed from PyPI:\n{install.stderr}"
        (folder / "complete").touch()
    return python


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    state = tmp_path_factory.mktemp("server")
    with (state / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, WIRE_SERVER, state], stdout=subprocess.PIPE, stderr=log, text=True)
    with server:
        line = server.stdout.readline()
        assert line.startswith("ready "), (state / "log").read_text()
        yield f"http://127.0.0.1:{line.split()[1]}/v1/{P}"
        server.terminate()
    assert "unexpected error" not in (state / "log").read_text()


@pytest.fixture(scope="module")
def runner(environment):
    process = subprocess.Popen(
        [environment, HERE / "old_client_runner.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


@pytest.fixture(scope="module")
def karbor(runner, endpoint):
    """`karbor(command, …, token=…)` → what it printed; a failing command is a failing test, unless `fails`."""
    return _program(
        runner, "karbor", ["--os-no-client-auth", "--karbor-url", endpoint, "--os-username", "x"], "--os-auth-token"
    )


@pytest.fixture(scope="module")
def openstack(runner, endpoint):
    common = ["--os-auth-type", "admin_token", "--os-endpoint", endpoint]
    run = _program(runner, "openstack", common, "--os-token")
    return lambda *argv, **options: run("data", "protection", *argv, **options)


def _program(runner, program, common, token_option):
    def run(*argv, token="m", fails=False):
        runner.stdin.write(json.dumps([program, [*common, token_option, token, *argv]]) + "\n")
        runner.stdin.flush()
        code, text = json.loads(runner.stdout.readline())
        assert (code != 0) == fails, f"{program} {' '.join(argv)}: {text}"
        return text

    return run


def ident(text):
    found = UUID.search(text)
    assert found, text
    return found[1]


def settled(show, word):
    for _ in range(60):
        text = show()
        if re.search(rf"\| status +\| {word} +\|", text):
            return text
        time.sleep(0.25)
    raise AssertionError(text)


def test_shell(karbor):
    assert "No-Op Provider" in karbor("provider-list")
    assert "No-Op Provider" in karbor("provider-list", "--name", "No-Op Provider", "--sort", "name:asc", "--limit", "5")
    assert '"OS::Cinder::Volume": {}' in karbor("provider-show", N)
    assert "OS::Nova::Server" in karbor("protectable-list")
    assert "OS::Glance::Image" in karbor("protectable-show", "OS::Nova::Server")
    assert "vol2" in karbor("protectable-list-instances", "OS::Cinder::Volume")
    assert "vol1" in karbor("protectable-show-instance", "OS::Cinder::Volume", VOLUME)

    created = karbor("plan-create", "mine", N, RESOURCE, "--description", "text")
    plan = ident(created)
    assert '"availability_zone": "nova"' in created
    assert "can not be found" in karbor("plan-create", "no", N, "x=OS::Cinder::Volume=x", fails=True)
    assert plan in karbor("plan-list", "--sort", "name:asc", "--name", "mine")
    assert plan in karbor("plan-list", "--tenant", P, token="a")
    assert "renamed" in karbor("plan-update", plan, "--name", "renamed")
    assert "renamed" in karbor("plan-show", plan)

    checkpoint = ident(karbor("checkpoint-create", N, plan, "--extra_info", "a=b"))
    shown = settled(lambda: karbor("checkpoint-show", N, checkpoint), "available")
    assert '"0x0"' in shown
    assert '"a": "b"' in shown
    assert checkpoint in karbor("checkpoint-list", N, "--plan_id", plan, "--start_date", "2020-01-01")
    karbor("checkpoint-reset-state", N, checkpoint)
    assert re.search(r"\| status +\| error", karbor("checkpoint-show", N, checkpoint))
    karbor("checkpoint-reset-state", N, checkpoint, "--available")

    restore = ident(karbor("restore-create", N, checkpoint))
    settled(lambda: karbor("restore-show", restore), "success")
    assert restore in karbor("restore-list", "--status", "success")
    verification = ident(karbor("verification-create", N, checkpoint))
    settled(lambda: karbor("verification-show", verification), "success")
    assert verification in karbor("verification-list")
    log = re.search(r"\| ([0-9a-f-]{36}) \| protect", karbor("operationlog-list"))[1]
    assert checkpoint in karbor("operationlog-show", log)

    karbor("checkpoint-delete", N, checkpoint)
    settled(lambda: karbor("checkpoint-show", N, checkpoint), "deleted")
    assert checkpoint not in karbor("checkpoint-list", N)
    karbor("plan-delete", "renamed")
    assert "could not be found" in karbor("plan-show", plan, fails=True)


def test_openstack_plugin(openstack):
    assert "No-Op Provider" in openstack("provider", "list")
    assert "No-Op Provider" in openstack("provider", "show", N)
    assert "OS::Nova::Server" in openstack("protectable", "list")
    assert "OS::Glance::Image" in openstack("protectable", "show", "OS::Nova::Server")
    assert "vol2" in openstack("protectable", "instance", "list", "OS::Cinder::Volume")
    assert "vol1" in openstack("protectable", "instance", "show", "OS::Cinder::Volume", VOLUME)
    plan = ident(openstack("plan", "create", "theirs", N, RESOURCE))
    assert plan in openstack("plan", "list")
    assert "theirs" in openstack("plan", "show", plan)
    assert "changed" in openstack("plan", "update", plan, "--name", "changed")
    checkpoint = ident(openstack("checkpoint", "create", N, plan))
    settled(lambda: openstack("checkpoint", "show", N, checkpoint), "available")
    assert checkpoint in openstack("checkpoint", "list", N)
    openstack("checkpoint", "reset", "state", N, checkpoint, "--available")
    restore = ident(openstack("restore", "create", N, checkpoint))
    settled(lambda: openstack("restore", "show", restore), "success")
    assert restore in openstack("restore", "list")
    verification = ident(openstack("verification", "create", N, checkpoint))
    settled(lambda: openstack("verification", "show", verification), "success")
    assert verification in openstack("verification", "list")
    log = re.search(r"\| ([0-9a-f-]{36}) \| protect", openstack("operationlog", "list"))[1]
    assert checkpoint in openstack("operationlog", "show", log)
    openstack("checkpoint", "delete", N, checkpoint)
    openstack("plan", "delete", plan)


def test_shell_of_schedules_and_administration(karbor):
    plan = ident(karbor("plan-create", "scheduled", N, RESOURCE))
    trigger = ident(karbor("trigger-create", "nightly", "time", "format=crontab,pattern=0 3 * * *"))
    assert "nightly" in karbor("trigger-list")
    assert "0 3 * * *" in karbor("trigger-show", trigger)
    assert "daily" in karbor("trigger-update", trigger, "--name", "daily")
    definition = f"provider_id={N},plan_id={plan}"
    operation = ident(karbor("scheduledoperation-create", "each night", "protect", trigger, definition))
    assert "each night" in karbor("scheduledoperation-list")
    assert plan in karbor("scheduledoperation-show", operation)
    assert "used" in karbor("trigger-delete", trigger, fails=True)
    karbor("scheduledoperation-delete", operation)
    karbor("trigger-delete", trigger)
    karbor("plan-delete", plan)
    assert "plans" in karbor("quota-show", "--tenant", P)
    assert "plans" in karbor("quota-defaults", "--tenant", P)
    assert "77" in karbor("quota-update", P, "--plans", "77", token="a")
    assert "66" in karbor("quota-class-update", "large", "--plans", "66", token="a")
    assert "66" in karbor("quota-class-show", "large", token="a")
    karbor("service-list", token="a")
    assert "403" in karbor("service-list", fails=True)


def test_errors_are_printed_and_not_tracebacks(karbor):
    text = karbor("plan-show", "11111111-1111-4111-8111-111111111111", fails=True)
    assert "could not be found" in text
    assert "Traceback" not in text


def test_the_walk_covers_v1():
    """Where the table gets another v1 route, the walks above must get its commands."""
    covered = {"plans", "providers", "checkpoints", "restores", "verifications", "operation_logs", "protectables"}
    covered |= {"triggers", "scheduled_operations", "quotas", "quota_classes", "os-services"}
    served = {route.path.split("/")[1] for route in ROUTES if not route.public and route.since == "v1"}
    assert served <= covered
