"""`python -m tests.chaos`: real remediators under havoc, on both databases. The last line is JSON."""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import get_args

from tests.chaos.faults import DatabaseKind, Report, run_chaos
from tests.remediator.conftest import credentials


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kill, freeze and cut off remediators at random while bots fall ill. Exits with 1 if a "
        "run did not end, an alert was lost, an effect was done twice or the audit trail is broken.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=120, help="of havoc, for each database")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of every choice")
    parser.add_argument("--bots", type=int, default=8, help="in the fleet")
    parser.add_argument("--database", choices=get_args(DatabaseKind), help="only this one")
    options = parser.parse_args()
    os.environ |= credentials()
    kinds = [options.database] if options.database else list(get_args(DatabaseKind))
    reports = []
    for kind in kinds:
        sys.stdout.write(f"{kind}: havoc for {options.seconds:g} s, seed {options.seed}\n")
        sys.stdout.flush()
        reports.append(asyncio.run(_run(kind, options)))
    print_line(
        {"well": all(report.well for report in reports), "chaos": [report.view() for report in reports]}
    )
    return 0 if all(report.well for report in reports) else 1


async def _run(kind: DatabaseKind, options: argparse.Namespace) -> Report:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    report = await run_chaos(folder, kind, options.seed, options.seconds, bots=options.bots)
    print_line(report.view())
    if not report.well:
        sys.stdout.write(f"{kind}: logs and database are kept in {folder}\n")
    return report


def print_line(view: object) -> None:
    sys.stdout.write(json.dumps(view) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
