"""`make bench-flow`: what the flow engine and a whole protect cost, in CPU seconds, over graphs of no-op resources.

Every figure is taken in a process of its own, user and system time together. On PostgreSQL and MariaDB the server's
own time is added. Goals: at most 1.5 ms per step on SQLite at 10,000 resources, twice that on servers; a slope
(CPU per step at the largest size over that at the smallest) near 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from karbor.domain.resource import Resource

SIZES = (100, 1_000, 10_000)
SHAPES = ("flat", "deep", "shared")
RESULT = Path(__file__).parent / "results" / "flow.json"
THING = "OS::Cinder::Volume"
PROVIDER = "b766f37c-d011-4026-8228-28730d734a3f"


def edges_of(shape: str, size: int) -> dict[str, list[str]]:
    """Who depends on whom: nobody; chains of ten; or ten parents in a row that share their children."""
    names = [f"r{i:05d}" for i in range(size)]
    if shape == "flat":
        return {name: [] for name in names}
    if shape == "deep":
        return {name: [names[i + 1]] if (i + 1) % 10 and i + 1 < size else [] for i, name in enumerate(names)}
    return {name: names[i + 1 : i + 6] if i + 6 <= size else [] for i, name in enumerate(names)}


def measure(shape: str, size: int, url: str) -> dict[str, float]:
    """Protect a plan of `size` no-op resources in this process; CPU seconds by phase."""
    from karbor.app import Application
    from karbor.bank.rootkey import make_key_file
    from karbor.bank.stores.filesystem import open_bank
    from karbor.domain.context import Caller
    from karbor.domain.resource import Resource
    from karbor.plugins.noop import Noop
    from karbor.protection.inventory import Inventory
    from karbor.providers import Provider, Providers
    from karbor.sdk.protectable import Protectable
    from karbor.settings import read

    logging.disable()
    edges = edges_of(shape, size)
    things = {name: Resource(type=THING, id=name, name=name) for name in edges}

    class Things(Protectable):
        type, parents = THING, (THING,)

        def list(self, _session: Any) -> list[Resource]:
            return list(things.values())

        def dependents(self, _session: Any, parents: Any) -> dict[str, list[Resource]]:
            return {parent.key: [things[child] for child in edges[parent.id]] for parent in parents}

    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        config = folder / "karbor.conf"
        config.write_text(
            f"[DEFAULT]\nstate_path = {folder}\nhost_resources = True\n[database]\n"
            f"connection = {url or f'sqlite:///{folder}/karbor.db'}\n"
        )
        make_key_file(folder / "root.key", os.urandom)
        app = Application(read([config]))
        sections = {"provider": {"id": [PROVIDER], "name": ["noop"], "delete_grace": ["0"]}}
        provider = Provider(sections, "bench", lambda: open_bank({"path": str(folder / "bank")}), [Noop({})])
        app.__dict__["providers"] = Providers([provider], {})
        app.__dict__["inventory"] = Inventory({THING: Things()}, {})
        app.upgrade_database()
        caller = Caller(user_id="u", project_id="p", roles=("member",))
        roots = (
            list(things.values())
            if shape == "flat"
            else [things[n] for n in list(edges)[:: 10 if shape == "deep" else size]]
        )
        plan = app.service.create_plan(
            caller, name="bench", description=None, provider_id=PROVIDER, resources=roots, parameters={}
        )
        stop = threading.Event()
        worker = threading.Thread(target=app.run_worker, args=(stop,), daemon=True)
        worker.start()
        time.sleep(1)
        before, began = cpu(), time.monotonic()
        begun = app.service.protect(caller, PROVIDER, plan.id, {})
        while app.service.checkpoint(caller, PROVIDER, begun.id).status == "protecting":
            time.sleep(0.2 if size > 1000 else 0.02)
        used, wall = cpu() - before, time.monotonic() - began
        done = app.service.checkpoint(caller, PROVIDER, begun.id)
        steps = app.service.progress(caller, "checkpoint", begun.id).total_steps
        stop.set()
        worker.join(60)
    if done.status != "available":
        raise SystemExit(f"{shape} {size}: {done.status}: {done.reason}")
    return {"cpu_s": used, "wall_s": wall, "steps": steps, "step_cpu_ms": 1000 * used / steps}


def planning() -> float:
    """CPU seconds to plan 10,000 resources with 50,000 edges: the graph, and the steps of a protect over it."""
    from karbor.domain.graph import build as build_graph
    from karbor.domain.operation import HOOKS
    from karbor.domain.resource import Resource
    from karbor.flow.build import Hooks, build

    edges = edges_of("shared", 10_000)
    before = cpu()
    graph = build_graph(
        [Resource(type=THING, id="r00000")],
        lambda parent: [Resource(type=THING, id=child) for child in edges[parent.id]],
    )
    build("protect", graph, lambda _: Hooks("noop", "1", HOOKS))
    return cpu() - before


def cpu() -> float:
    """CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("SHAPE", "SIZE", "URL"))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    arguments = parser.parse_args()
    if arguments.one:
        shape, size, url = arguments.one
        print(json.dumps(measure(shape, int(size), url)))
        return 0
    sizes = [int(size) for size in arguments.sizes.split(",")]
    found: dict[str, Any] = {}
    for shape in SHAPES:
        for size in sizes:
            command = [sys.executable, __file__, "--one", shape, str(size), ""]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.setdefault(shape, {})[str(size)] = json.loads(text)
            print(f"{shape:7} {size:6}: {found[shape][str(size)]}", flush=True)
    flat = found["flat"]
    result = {
        "database": "sqlite",
        "plan_10000_nodes_50000_edges_cpu_s": planning(),
        "step_cpu_ms": {
            shape: {size: row["step_cpu_ms"] for size, row in rows.items()} for shape, rows in found.items()
        },
        "protect_cpu_s": {size: row["cpu_s"] for size, row in flat.items()},
        "slope": flat[str(sizes[-1])]["step_cpu_ms"] / flat[str(sizes[0])]["step_cpu_ms"],
        "runs": found,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("step_cpu_ms", "protect_cpu_s", "slope")}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
