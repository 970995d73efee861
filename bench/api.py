"""What requests cost: CPU of the API's process per request, p50 and p99, with a filled catalogue.

    .venv/bin/python bench/api.py [--plans 1000] [--checkpoints 10000] [--seconds 3] [--out bench/results/api.json]

The API runs as a process of its own (waitress, SQLite, static token); the load comes over one keep-alive connection,
so that latency is not queueing. CPU is user + system of that process, from /proc.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from karbor.app import application
from karbor.bank.rootkey import make_key_file
from karbor.domain.checkpoint import Checkpoint, ResourceState
from karbor.domain.graph import ResourceGraph
from karbor.domain.plan import Plan
from karbor.domain.resource import Resource

PROJECT, PROVIDER, TOKEN = "1" * 32, "b766f37c-d011-4026-8228-28730d734a3f", "secret"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = """\
[DEFAULT]
quota_plans = -1
state_path = {state}
provider_config_dir = {state}/providers.d
auth_strategy = static
static_project = {project}
osapi_karbor_listen = 127.0.0.1
osapi_karbor_listen_port = {port}
"""
NOOP = """\
[provider]
name = No-Op
id = {provider}
bank = karbor-fs-bank-plugin
plugin = karbor-noop-protection-plugin
enabled = True
[karbor-fs-bank-plugin]
path = {state}/bank
"""


def prepare(state: Path, port: int) -> Path:
    (state / "providers.d").mkdir()
    (state / "providers.d" / "noop.conf").write_text(NOOP.format(provider=PROVIDER, state=state))
    (state / "karbor.conf").write_text(CONFIG.format(state=state, project=PROJECT, port=port))
    make_key_file(state / "root.key", os.urandom)
    (state / "token").write_text(TOKEN)
    (state / "token").chmod(0o600)
    return state / "karbor.conf"


def fill(config: Path, plans: int, checkpoints: int) -> tuple[str, str]:
    """Records as the service would have written them; the ids of one plan and one checkpoint."""
    app = application([config])
    app.upgrade_database()
    resources = tuple(
        Resource(
            type="OS::Cinder::Volume", id=str(uuid.uuid4()), name=f"vol{i}", extra_info={"availability_zone": "nova"}
        )
        for i in range(3)
    )
    graph = ResourceGraph(resources, ((), (), ()))
    states = tuple(ResourceState(key=one.key, status="available", data_location="bank") for one in resources)
    common = {"project_id": PROJECT, "provider_id": PROVIDER, "resources": resources}
    rows: list[Plan | Checkpoint] = [
        Plan(
            id=str(uuid.uuid4()), name=f"plan {i}", parameters={}, created_at=START + dt.timedelta(seconds=i), **common
        )
        for i in range(plans)
    ]
    rows += [
        Checkpoint(
            id=str(uuid.uuid4()),
            plan_id=rows[i % plans].id,
            plan_name="plan",
            status="available",
            created_at=START + dt.timedelta(minutes=i),
            graph=graph,
            states=states,
            extra_info={"created_by": "manual"},
            **common,
        )
        for i in range(checkpoints)
    ]

    def work(tx: object) -> None:
        for row in rows:
            app.catalogue.insert(tx, row)

    app.catalogue.transact(work)
    return rows[0].id, rows[-1].id


class Server:
    """The API's process."""

    def __init__(self, state: Path, port: int) -> None:
        arguments = [sys.executable, "-m", "karbor.standalone", "api", str(state), str(os.getpid())]
        self.process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.errors = 0
        deadline = time.monotonic() + 120
        while True:
            try:
                self.request("GET", "/healthcheck")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                self.connection.close()
                time.sleep(0.1)

    def request(self, method: str, path: str, body: str | None = None) -> bytes:
        headers = {"X-Auth-Token": TOKEN, "Content-Type": "application/json"}
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        self.errors += response.status >= 500
        assert response.status < 400, content
        return content

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def measure(self, seconds: float, method: str, path: str, body: str | None = None) -> dict[str, float]:
        for _ in range(5):
            content = self.request(method, path, body)
        times: list[float] = []
        before, end = self.cpu(), time.monotonic() + seconds
        while time.monotonic() < end or len(times) < 20:
            start = time.perf_counter()
            self.request(method, path, body)
            times.append((time.perf_counter() - start) * 1000)
        cpu = (self.cpu() - before) * 1000 / len(times)
        cuts = statistics.quantiles(times, n=100)
        return {
            "requests": len(times),
            "cpu_ms": round(cpu, 3),
            "p50_ms": round(cuts[49], 3),
            "p99_ms": round(cuts[98], 3),
            "bytes": len(content),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=1000)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--port", type=int, default=18799)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        plan, checkpoint = fill(prepare(state, options.port), options.plans, options.checkpoints)
        server = Server(state, options.port)
        below = f"/v1/{PROJECT}"
        checkpoints = f"{below}/providers/{PROVIDER}/checkpoints"
        resource = {"id": str(uuid.uuid4()), "type": "OS::Cinder::Volume", "name": "v"}
        new = {"name": "n", "provider_id": PROVIDER, "parameters": {}, "resources": [resource]}
        loads = {
            "list50": ("GET", f"{checkpoints}?limit=50", None),
            "list50_of_a_plan": ("GET", f"{checkpoints}?limit=50&plan_id={plan}", None),
            "show": ("GET", f"{checkpoints}/{checkpoint}", None),
            "plans1000": ("GET", f"{below}/plans?limit=1000", None),
            "show_plan": ("GET", f"{below}/plans/{plan}", None),
            "post_plan": ("POST", f"{below}/plans", json.dumps({"plan": new})),
        }
        results = {name: server.measure(options.seconds, *load) for name, load in loads.items()}
        server.connection.close()
        server.process.terminate()
        server.process.wait()
    summary = {f"{name}_cpu_ms": result["cpu_ms"] for name, result in results.items()}
    document = {
        "plans": options.plans,
        "checkpoints": options.checkpoints,
        **summary,
        "server_errors": server.errors,
        "loads": results,
    }
    text = json.dumps(document, indent=2)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
