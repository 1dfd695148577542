"""`python -m tests.boot`: an instance is booted for real, and lives through what happens to one.

The last line is JSON: what was seen, in seconds where it took time, and what was skipped, with the reason.
All is where no machine can be booted. In CI as root nothing may be: it fails instead.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from sandbox.process.binaries import BinaryError, lock
from sandbox.process.openclaw import install
from tests.boot.report import Report
from tests.boot.root import CACHE, RootError, node_archive, pristine, require_programs

RUNS: Final = CACHE / "runs"  # one at a time: each takes 4 GB and what processors there are


def main() -> int:
    obliged = "CI" in os.environ and os.geteuid() == 0
    try:
        require_programs()
        pristine()
        node_archive(install())
    except (RootError, BinaryError) as error:
        print_line({"boot": "failed" if obliged else "skipped", "reason": str(error)})
        return 1 if obliged else 0
    os.environ["BOOT"] = "yes"
    report = Report()
    with lock(RUNS):
        places = [
            f"--basetemp={RUNS / 'run'}",
            str(Path(__file__).parent),
        ]  # what a killed run left is removed
        options = ["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "--durations=0"]
        code = pytest.main([*options, *places, *sys.argv[1:]], plugins=[report])
        shutil.rmtree(RUNS / "run", ignore_errors=True)
    code = code or int(obliged and bool(report.skipped))
    skipped = {"skipped": report.skipped} if report.skipped else {}
    print_line({"boot": "failed" if code else "well", **report.facts, **skipped})
    return int(code)


def print_line(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
