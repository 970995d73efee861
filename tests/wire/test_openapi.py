"""schemathesis against the real server: no server error, no answer that the OpenAPI document does not describe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import schemathesis

P = "5" * 32
N = "b766f37c-d011-4026-8228-28730d734a3f"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
# The project must be the token's; a provider and a type that exist lead further into the handlers. The limits of other
# tests' projects and their worker are left alone.
CONFIG = f"""\
[parameters]
"path.project_id" = "{P}"
"path.provider_id" = "{N}"
"path.type" = "OS::Cinder::Volume"
"path.project" = "{"6" * 32}"
"path.name" = "fuzzed"
"path.service" = "99"
"""


def test_the_document_is_openapi_31(port):
    schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json").validate()


@pytest.mark.parametrize(
    ("phases", "examples"), [("coverage", "1"), pytest.param("coverage,fuzzing", "100", marks=pytest.mark.long)]
)
def test_answers_are_what_the_document_says(port, tmp_path, phases, examples):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [Path(sys.executable).with_name("schemathesis"), f"--config-file={config}", "run", "--no-color"]
    options = ["--header=X-Auth-Token: a5", f"--checks={','.join(CHECKS)}", f"--phases={phases}", f"-n{examples}"]
    place = f"http://127.0.0.1:{port}/openapi.json"
    run = subprocess.run(
        [*command, *options, "--warnings=off", place], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-8000:]
