"""Instance types of EC2, from a dated table: vCPUs, memory, architecture, and what CPU credits pay for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

FILE: Final = Path(__file__).with_name("data") / "instance-types.yaml"
Architecture = Literal["x86_64", "arm64"]

# The share of each vCPU that CPU credits pay for, day in, day out, by size; of t2 where it is another.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html
_BASELINES: Final[Mapping[str, float]] = {
    "nano": 0.05,
    "micro": 0.1,
    "small": 0.2,
    "medium": 0.2,
    "large": 0.3,
    "xlarge": 0.4,
    "2xlarge": 0.4,
    "t2.xlarge": 0.225,
    "t2.2xlarge": 0.17,
}


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A type. `baseline`: the share of each vCPU that may be used day in, day out; 1 without credits."""

    name: str
    vcpus: int
    memory_gib: float
    baseline: float
    architecture: Architecture
    burstable: bool  # has CPU credits

    @property
    def family(self) -> str:
        """Return the family, such as t3."""
        return family_name(self.name)

    @property
    def usable_gib(self) -> float:
        """Return the memory without the kernel's own: Linux shows about 7 % less than was bought."""
        return self.memory_gib * 0.93

    @property
    def sustained_vcpus(self) -> float:
        """Return the vCPUs that may be used day in, day out."""
        return self.vcpus * self.baseline


def family_name(name: str) -> str:
    """Return the family of a type, known or not: t3 of t3.small."""
    return name.partition(".")[0]


def _read() -> dict[str, InstanceType]:
    data: Mapping[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        f"{family}.{size}": InstanceType(
            name=f"{family}.{size}",
            vcpus=vcpus,
            memory_gib=float(gib),
            baseline=_baseline(family, size) if facts["burstable"] else 1.0,
            architecture=facts["architecture"],
            burstable=facts["burstable"],
        )
        for family, facts in data["families"].items()
        for size, (vcpus, gib) in facts["sizes"].items()
    }


def _baseline(family: str, size: str) -> float:
    return _BASELINES.get(f"{family}.{size}", _BASELINES[size])


INSTANCE_TYPES: Final[Mapping[str, InstanceType]] = _read()
FAMILIES: Final = tuple(dict.fromkeys(type_.family for type_ in INSTANCE_TYPES.values()))


def family_of(name: str) -> list[InstanceType]:
    """Return the types of the same family, smallest first; empty where the type is not known."""
    if name not in INSTANCE_TYPES:
        return []
    family = INSTANCE_TYPES[name].family
    return [type_ for type_ in INSTANCE_TYPES.values() if type_.family == family]


def unknown_type(name: str) -> str:
    """Return why a type cannot be used, and which can."""
    if (family := family_name(name)) in FAMILIES:
        known = ", ".join(type_.name for type_ in INSTANCE_TYPES.values() if type_.family == family)
        return f"is not known; use one of {known}"
    return f"is not known; use a size of {', '.join(FAMILIES)}, such as t3.small"
