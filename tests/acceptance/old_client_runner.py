"""Runs in the old client's own environment: reads command lines as JSON, answers exit code and output as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings

warnings.simplefilter("ignore")

from karborclient.shell import KarborShell  # noqa: E402 - its imports warn
from openstackclient import shell as openstack  # noqa: E402


def run(program, arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = KarborShell().main(arguments) if program == "karbor" else openstack.main(arguments)
        except SystemExit as error:
            code = error.code
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
            code = 1
    return [code or 0, output.getvalue()]


for line in sys.stdin:
    print(json.dumps(run(*json.loads(line))), file=sys.__stdout__, flush=True)
