"""Which instance a bot should have, and why. Pure: usage, prices and the last advice in, advice out.

The rule: the p99.5 of 14 days and 20 % more must fit. Memory comes first, because a bot without it is
killed while one without CPU is slow; then CPU at its peak; then CPU over the busiest day, which credits
must pay for. It stays in the family: another may have another architecture, and so another image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from remediator.cost.estimate import HOURS_A_MONTH
from remediator.cost.price_table import PriceTable
from remediator.cost.utilization import (
    CLOUDWATCH,
    NODE,
    POINTS_A_DAY,
    WINDOW_DAYS,
    Usage,
)
from templates.facts import OPENCLAW_IDLE_MB, OPENCLAW_TURN_MB
from templates.instance_types import INSTANCE_TYPES, InstanceType, family_of, unknown_type

HEADROOM: Final = 1.2
EASE: Final = 0.9  # advice begins a tenth beyond the rule's limit, and ends at the limit: it does not flap
BUSY_LOOP: Final = 0.9  # of an event loop: the bot waits for its own core
TURN_GIB: Final = OPENCLAW_TURN_MB / 1024  # an OpenClaw at the peak of a turn, as measured

Status = Literal["recommended", "fits", "insufficient data", "too large"]


@dataclass(frozen=True, slots=True)
class Need:
    """What must fit, headroom included; None where it is not known."""

    memory_gib: float | None
    vcpus: float | None
    sustained_vcpus: float | None

    def fits(self, size: InstanceType, ease: float = 1.0) -> bool:
        """Return whether the size has all that is needed within `ease`, a share of what it has."""
        return not self.lacking(size, ease)

    def lacking(self, size: InstanceType, ease: float = 1.0) -> list[str]:
        """Return what the size has too little of, in words, memory first."""
        pairs = (
            ("memory", self.memory_gib, size.usable_gib, "GiB"),
            ("CPU", self.vcpus, size.vcpus, "vCPU"),
            ("CPU credits", self.sustained_vcpus, size.sustained_vcpus, "vCPU all day"),
        )
        return [
            f"{what}: {need:.2f} {unit} needed, {size.name} has {has:.2f}"
            for what, need, has, unit in pairs
            if need is not None and need > has * ease + 1e-9
        ]


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation about a bot. `target` is empty where it should stay as it is."""

    bot: str
    kind: Literal["instance", "model"]
    status: Status
    current: str
    target: str = ""
    monthly_saving: float | None = None  # US dollars; below 0 it costs more; None: a price is unknown
    evidence: Sequence[str] = ()
    risk: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """Return what a person types to follow it; empty where there is nothing to do."""
        if not self.overrides:
            return ""
        changes = " ".join(f"--set {name}={value}" for name, value in self.overrides.items())
        return f"botctl config {self.bot} {changes} --apply"


def need_of(usage: Usage) -> Need:
    """Return what must fit, of what was measured for long enough."""
    cpu, memory = usage.cpu, usage.memory
    return Need(
        memory_gib=memory.expected * HEADROOM if memory and memory.enough else None,
        vcpus=cpu.expected * HEADROOM if cpu and cpu.enough else None,
        sustained_vcpus=usage.cpu_day * HEADROOM
        if usage.cpu_day is not None and cpu is not None and cpu.enough
        else None,
    )


def advise(bot: str, current: str, usage: Usage, prices: PriceTable, standing: str = "") -> Advice:
    """Return advice on the instance. `standing`: the target that was advised last, empty if none was."""
    size = INSTANCE_TYPES.get(current)
    if size is None:
        evidence = [f"{current} {unknown_type(current)}"]
        return Advice(bot, "instance", "insufficient data", current, evidence=evidence)
    need = need_of(usage)
    complete = None not in (need.memory_gib, need.vcpus, need.sustained_vcpus)
    if need.memory_gib is None:  # what the bot's own program takes is known without measuring
        need = Need(TURN_GIB, need.vcpus, need.sustained_vcpus)
    target = _target(size, need, INSTANCE_TYPES.get(standing), may_shrink=complete and not _busy(usage))
    evidence = _evidence(usage, size, need)
    if target is None:
        evidence += [
            f"no {size.family} instance has it and a little to spare: share the bot's work among several, "
            "or use another family"
        ]
        return Advice(bot, "instance", "too large", current, evidence=evidence)
    if target is size:
        status: Status = "fits" if complete else "insufficient data"
        return Advice(bot, "instance", status, current, evidence=evidence)
    return Advice(
        bot=bot,
        kind="instance",
        status="recommended",
        current=current,
        target=target.name,
        monthly_saving=saving(current, target.name, prices),
        evidence=evidence,
        risk=_risk(size, target, complete=complete),
        overrides={"instance_type": target.name, "memory": f"{max(1, int(target.memory_gib))}GB"},
    )


def _target(
    size: InstanceType, need: Need, standing: InstanceType | None, *, may_shrink: bool
) -> InstanceType | None:
    """Return the size to have; the present one to stay; None where no size is large enough."""
    sizes = family_of(size.name)
    larger, smaller = sizes[sizes.index(size) + 1 :], sizes[: sizes.index(size)]
    growing = standing is not None and standing in larger
    if not need.fits(size, EASE if growing else 1.0):
        # Less than the last advice is advised only once that is a tenth too large.
        below = larger[: larger.index(standing)] if growing and standing is not None else []
        # Nor is the largest said to be enough until it is by a tenth: else "too large" would come and go.
        eased = [*below, *(largest for largest in sizes[-1:] if largest is not standing)]
        target = next((other for other in larger if need.fits(other, EASE if other in eased else 1.0)), None)
        return target if target is not None or not need.fits(size) else size
    if may_shrink:
        for other in smaller:
            if need.fits(other, 1.0 if other is standing else EASE):
                return other
    return size


def saving(current: str, target: str, prices: PriceTable) -> float | None:
    """Return US dollars a month that the change saves; None where a price is unknown."""
    before, after = prices.instance.get(current), prices.instance.get(target)
    return None if before is None or after is None else (before - after) * HOURS_A_MONTH


def _busy(usage: Usage) -> bool:
    return usage.event_loop is not None and usage.event_loop >= BUSY_LOOP


def _evidence(usage: Usage, size: InstanceType, need: Need) -> list[str]:
    lines = need.lacking(size)
    for what, measure, unit in (("memory", usage.memory, "GiB"), ("CPU", usage.cpu, "vCPU")):
        if measure is None:
            lines.append(f"{what} of the instance: not measured ({NODE} and {CLOUDWATCH} tell nothing)")
        elif not measure.enough:
            days = measure.points / POINTS_A_DAY
            lines.append(
                f"{what} of the instance: {days:.1f} days are known ({measure.source}), "
                f"{WINDOW_DAYS} are needed"
            )
        else:
            grown = (
                f", {measure.expected:.2f} expected as it grows"
                if measure.expected > measure.peak * 1.001
                else ""
            )
            lines.append(
                f"{what}: p99.5 of {WINDOW_DAYS} days is {measure.peak:.2f} {unit}{grown} ({measure.source})"
            )
    if usage.memory is None or not usage.memory.enough:
        lines.append(
            f"the bot's own program takes {OPENCLAW_IDLE_MB} MB when idle, {OPENCLAW_TURN_MB} in a turn"
        )
    if usage.cpu_day is not None and size.burstable:
        has = size.sustained_vcpus
        lines.append(f"CPU credits: the busiest day's mean is {usage.cpu_day:.2f} vCPU of {has:.2f} paid for")
    if usage.event_loop is not None:
        lines.append(f"event loop: busy {usage.event_loop:.0%} of the time at p99.5")
        if _busy(usage):
            lines.append(
                f"one core is its limit: every {size.family} has the same, a larger one would not be faster"
            )
    if usage.context is not None:
        lines.append(f"context window: {usage.context:.0%} in use at p99.5")
    return lines


def _risk(size: InstanceType, target: InstanceType, *, complete: bool) -> str:
    if target.memory_gib > size.memory_gib:
        caveat = "" if complete else " It rests on what the program takes in a turn, not on a measurement."
        return (
            f"Low: more of everything; the bot is replaced by blue/green, and its address moves once.{caveat}"
        )
    return (
        "Medium: a peak higher than any of the last 14 days would find less room. The old instance stays on "
        "standby for the rollback window."
    )
