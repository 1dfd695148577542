"""What the benchmarks share: options with a quick mode, lines on the terminal, and the kernel's counters."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

TICKS: Final = os.sysconf("SC_CLK_TCK")


def parse_options(
    parser: argparse.ArgumentParser, quick: Mapping[str, Any], argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse the command line; with --quick the defaults are those in `quick`, which take seconds."""
    parser.add_argument(
        "--quick", action="store_true", help="run for seconds, to see that it works: the figures mean nothing"
    )
    if parser.parse_args(argv).quick:
        parser.set_defaults(**quick)
    return parser.parse_args(argv)


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_bytes(pid: int, key: str = "VmRSS") -> int:
    """Return a figure of /proc/PID/status in bytes; 0 where the process is gone."""
    match = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) * 1024 if match else 0
