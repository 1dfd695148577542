"""Writes templates/data/instance-types.yaml from DescribeInstanceTypes' answer, which moto ships.

    python scripts/instance_types.py [--check]

The date is that of the last change: the same facts keep it, whichever release of moto they come from.
"""

import gzip
import json
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parent.parent / "templates/data/instance-types.yaml"
FAMILIES: Final = (
    *("t2", "t3", "t3a", "t4g"),
    *("m5", "m5a", "m6i", "m6a", "m6g", "m7i", "m7a", "m7g", "m8i", "m8a", "m8g"),
    *("c5", "c6i", "c6a", "c6g", "c7i", "c7a", "c7g", "c8i", "c8g"),
    *("r5", "r6i", "r6a", "r6g", "r7i", "r7a", "r7g", "r8i", "r8g"),
)
LARGEST: Final = 32  # vCPUs: 8xlarge
HEAD: Final = """\
# Instance types: vCPUs and GiB of memory by size, smallest first; architecture as EC2 names it; burstable:
# CPU by credits. Written by `make generate` (scripts/instance_types.py).
"""


def described() -> dict[str, Any]:
    """Return DescribeInstanceTypes' answer by type."""
    packed = (files("moto") / "ec2/resources/instance_types.json.gz").read_bytes()
    types: dict[str, Any] = json.loads(gzip.decompress(packed))
    return types


def family_line(name: str, types: dict[str, Any]) -> str:
    """Return the line of a family."""
    members = [fact for type_, fact in types.items() if type_.partition(".")[0] == name]
    members = [fact for fact in members if not fact["BareMetal"] and vcpus(fact) <= LARGEST]
    members.sort(key=lambda fact: (gib(fact), vcpus(fact)))
    (architecture,) = {fact["ProcessorInfo"]["SupportedArchitectures"][-1] for fact in members}
    (burstable,) = {fact["BurstablePerformanceSupported"] for fact in members}
    sizes = ", ".join(
        f"{fact['InstanceType'].partition('.')[2]}: [{vcpus(fact)}, {gib(fact):g}]" for fact in members
    )
    return (
        f"  {name}: {{architecture: {architecture}, burstable: {str(burstable).lower()}, sizes: {{{sizes}}}}}"
    )


def vcpus(fact: dict[str, Any]) -> int:
    """Return a type's vCPUs."""
    return int(fact["VCpuInfo"]["DefaultVCpus"])


def gib(fact: dict[str, Any]) -> float:
    """Return a type's memory in GiB."""
    return float(fact["MemoryInfo"]["SizeInMiB"]) / 1024


def main() -> int:
    """Write the file, or compare it (`--check`); return the exit code."""
    types = described()
    families = "families:\n" + "".join(f"{family_line(name, types)}\n" for name in FAMILIES)
    before = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    if before.startswith(HEAD) and before.endswith(families):
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{FILE.name} differs from what moto {version('moto')} has: make generate")
        return 1
    source = f"DescribeInstanceTypes, as moto {version('moto')} has it"
    FILE.write_text(
        f'{HEAD}as_of: "{datetime.now(UTC):%Y-%m-%d}"\nsource: {source}\n{families}', encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
