"""Runs the data files in `v1`: each is a list of steps, and a step is a request with what must come back.

    GET: /plans/${pl}        method and path below the project's; `//` begins a path of its own
    as: m2                   whose token, and by default whose project; `none` sends none
    project: ${P2}           another project in the address
    json | body, headers     what is sent
    status: 200              and `fault: badRequest` for the key of the error
    answer | exactly         a part of the answer, or the whole
    has: {name: value}       headers of the answer
    absent: [key, …]         what must not stand in the answer
    save: {pl: plan.id}      values for the steps that follow
    until: {checkpoint.status: available}    the request is repeated until this holds

In expected values ``<any>``, ``<uuid>``, ``<date>`` and ``<time>`` stand for what they say.
"""

from __future__ import annotations

import http.client
import json
import re
import string
import time
import uuid
from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).parent / "v1").glob("*.yaml"))
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
NAMES = {
    "P": "1" * 32,
    "P2": "2" * 32,
    "P3": "3" * 32,
    "P6": "6" * 32,
    "N": "b766f37c-d011-4026-8228-28730d734a3f",
    "O": "cf56bd3e-97a7-4078-b6d5-f36246333fd9",
    "V1": "a1a1a1a1-0000-4000-8000-000000000001",
    "V2": "a2a2a2a2-0000-4000-8000-000000000002",
    "S1": "b1b1b1b1-0000-4000-8000-000000000001",
    "I": "cccccccc-0000-4000-8000-000000000001",
    "X": str(uuid.uuid4()),
}
PROJECTS = {"m": "P", "a": "P", "r": "P", "none": "P", "m2": "P2", "m3": "P3", "m6": "P6"}
SHAPES = {
    "<any>": r"(?s).*",
    "<uuid>": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "<date>": r"\d{4}-\d\d-\d\d",
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z?",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_v1(port, file):
    names = dict(NAMES)
    for number, raw in enumerate(yaml.safe_load(file.read_text()), 1):
        step = filled(raw, names)
        (method,) = [word for word in METHODS if word in step]
        place = f"{file.name}, step {number}: {method} {step[method]} {step.get('name', '')}"
        deadline = time.monotonic() + 60
        while True:
            status, headers, content = request(port, step, method, names)
            answer = json.loads(content) if content and headers.get("content-type") == "application/json" else content
            if "until" not in step or all(at(answer, key) == value for key, value in step["until"].items()):
                break
            assert time.monotonic() < deadline, f"{place}: {answer}"
            time.sleep(0.1)
        check(place, step, status, headers, answer)
        for name, key in step.get("save", {}).items():
            names[name] = at(answer, key)


def request(port, step, method, names):
    who = step.get("as", "m")
    path = step[method]
    whole = path[1:] if path.startswith("//") else f"/v1/{step.get('project', names[PROJECTS[who]])}{path}"
    headers = {} if who == "none" else {"X-Auth-Token": who}
    body = step.get("body")
    if "json" in step:
        body, headers["Content-Type"] = json.dumps(step["json"]), "application/json"
    headers |= step.get("headers", {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, whole.replace(" ", "%20"), body, headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def check(place, step, status, headers, answer):
    assert status == step.get("status", 200), f"{place}: {status} {answer}"
    assert headers["x-openstack-request-id"] == headers["x-compute-request-id"], place
    if "fault" in step:
        assert list(answer) == [step["fault"]], f"{place}: {answer}"
        assert answer[step["fault"]]["code"] == status
        assert answer[step["fault"]]["message"]
    if "answer" in step:
        assert matches(step["answer"], answer, whole=False), f"{place}: {answer}"
    if "exactly" in step:
        assert matches(step["exactly"], answer, whole=True), f"{place}: {answer}"
    for key in step.get("absent", ()):
        assert at(answer, key) is None, f"{place}: {answer}"
    for name, value in step.get("has", {}).items():
        assert matches(value, headers.get(name), whole=True), f"{place}: {headers}"


def matches(expected, found, *, whole):
    if isinstance(expected, dict):
        same = isinstance(found, dict) and (not whole or expected.keys() == found.keys())
        return same and all(key in found and matches(value, found[key], whole=whole) for key, value in expected.items())
    if isinstance(expected, list):
        same = isinstance(found, list) and len(expected) == len(found)
        return same and all(matches(e, f, whole=whole) for e, f in zip(expected, found, strict=True))
    if isinstance(expected, str) and expected in SHAPES:
        return re.fullmatch(SHAPES[expected], found if isinstance(found, str) else json.dumps(found)) is not None
    return expected == found if not isinstance(found, bytes) else str(expected).encode() == found


def at(answer, key):
    for part in key.split("."):
        if isinstance(answer, list):
            answer = answer[int(part)] if int(part) < len(answer) else None
        elif isinstance(answer, dict):
            answer = answer.get(part)
        else:
            return None
    return answer


def filled(value, names):
    if isinstance(value, str):
        return string.Template(value).safe_substitute(names)
    if isinstance(value, dict):
        return {filled(key, names): filled(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    return value
