"""Which instance a bot should have, and why. Pure: usage, prices and what was said last in, advice out.

The rule: the p99.5 of 14 days and 20 % more must fit. Memory comes first, because a bot without it is
killed while one without CPU is slow; then CPU at its peak; then CPU over the busiest day, which credits
must pay for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from remediator.cost import HOURS_A_MONTH
from remediator.prices import PriceTable
from remediator.usage import CLOUDWATCH, NODE, POINTS_A_DAY, SHAPES, WINDOW_DAYS, Shape, Usage

HEADROOM: Final = 1.2
EASE: Final = 0.9  # advice begins a tenth beyond the rule's limit, and ends at the limit: it does not flap
BUSY_LOOP: Final = 0.9  # of an event loop: the bot waits for its own core
IDLE_GIB: Final = 806 / 1024  # an OpenClaw that has nothing to do, as measured: no bot needs less

Status = Literal["recommended", "fits", "insufficient data", "too large"]


@dataclass(frozen=True, slots=True)
class Need:
    """What must fit, headroom included; None where it is not known."""

    memory_gib: float | None
    vcpus: float | None
    sustained_vcpus: float | None

    def fits(self, shape: Shape, ease: float = 1.0) -> bool:
        return not self.lacking(shape, ease)

    def lacking(self, shape: Shape, ease: float = 1.0) -> list[str]:
        """What this shape has too little of, in words, memory first."""
        pairs = (
            ("memory", self.memory_gib, shape.usable_gib, "GiB"),
            ("CPU", self.vcpus, shape.vcpus, "vCPU"),
            ("CPU credits", self.sustained_vcpus, shape.sustained_vcpus, "vCPU all day"),
        )
        return [
            f"{what}: {need:.2f} {unit} needed, {shape.name} has {has:.2f}"
            for what, need, has, unit in pairs
            if need is not None and need > has * ease + 1e-9
        ]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about one bot. `target` is empty where it should stay as it is."""

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
        if not self.overrides:
            return ""
        changes = " ".join(f"--set {name}={value}" for name, value in self.overrides.items())
        return f"botctl config {self.bot} {changes} --apply"


def need_of(usage: Usage) -> Need:
    cpu, memory = usage.cpu, usage.memory
    return Need(
        memory_gib=memory.expected * HEADROOM if memory and memory.enough else None,
        vcpus=cpu.expected * HEADROOM if cpu and cpu.enough else None,
        sustained_vcpus=usage.cpu_day * HEADROOM
        if usage.cpu_day is not None and cpu is not None and cpu.enough
        else None,
    )


def advise(bot: str, current: str, usage: Usage, prices: PriceTable, standing: str = "") -> Advice:
    """`standing`: the target that was advised last, empty if none was."""
    shape = SHAPES.get(current)
    if shape is None:
        return Advice(bot, "instance", "insufficient data", current, evidence=[f"{current} is not known"])
    need = need_of(usage)
    complete = None not in (need.memory_gib, need.vcpus, need.sustained_vcpus)
    if need.memory_gib is None:  # what the bot's own program takes is known without measuring
        need = Need(IDLE_GIB * HEADROOM, need.vcpus, need.sustained_vcpus)
    target = _target(shape, need, SHAPES.get(standing), may_shrink=complete and not _busy(usage))
    evidence = _evidence(usage, shape, need)
    if target is None:
        evidence += [
            "no t3 instance has it and a little to spare: share the bot's work among several, "
            "or use another family"
        ]
        return Advice(bot, "instance", "too large", current, evidence=evidence)
    if target is shape:
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
        risk=_risk(shape, target, complete=complete),
        overrides={"instance_type": target.name, "memory": f"{target.memory_gib:.0f}GB"},
    )


def _target(shape: Shape, need: Need, standing: Shape | None, *, may_shrink: bool) -> Shape | None:
    """The shape to have; the present one to stay; None where no shape is large enough."""
    sizes = list(SHAPES.values())
    larger, smaller = sizes[sizes.index(shape) + 1 :], sizes[: sizes.index(shape)]
    growing = standing is not None and standing in larger
    if not need.fits(shape, EASE if growing else 1.0):
        # Less than what was said last is said only once that is a tenth too large.
        below = larger[: larger.index(standing)] if growing and standing is not None else []
        # Nor is the largest said to be enough until it is by a tenth: else "too large" would come and go.
        eased = [*below, *(one for one in sizes[-1:] if one is not standing)]
        found = next((one for one in larger if need.fits(one, EASE if one in eased else 1.0)), None)
        return found if found is not None or not need.fits(shape) else shape
    if may_shrink:
        for one in smaller:
            if need.fits(one, 1.0 if one is standing else EASE):
                return one
    return shape


def saving(current: str, target: str, prices: PriceTable) -> float | None:
    before, after = prices.instance.get(current), prices.instance.get(target)
    return None if before is None or after is None else (before - after) * HOURS_A_MONTH


def _busy(usage: Usage) -> bool:
    return usage.event_loop is not None and usage.event_loop >= BUSY_LOOP


def _evidence(usage: Usage, shape: Shape, need: Need) -> list[str]:
    lines = need.lacking(shape)
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
        lines.append(f"the bot's own program takes {IDLE_GIB * 1024:.0f} MiB when idle")
    if usage.cpu_day is not None:
        has = shape.sustained_vcpus
        lines.append(f"CPU credits: the busiest day's mean is {usage.cpu_day:.2f} vCPU of {has:.2f} paid for")
    if usage.event_loop is not None:
        lines.append(f"event loop: busy {usage.event_loop:.0%} of the time at p99.5")
        if _busy(usage):
            lines.append("one core is its limit: every t3 has the same, so a larger one would not be faster")
    if usage.context is not None:
        lines.append(f"context window: {usage.context:.0%} in use at p99.5")
    return lines


def _risk(shape: Shape, target: Shape, *, complete: bool) -> str:
    if target.memory_gib > shape.memory_gib:
        known = "" if complete else " It rests on what the program takes when idle, not on a measurement."
        return (
            f"Low: more of everything; the bot is replaced by blue/green, and its address moves once.{known}"
        )
    return (
        "Medium: a peak higher than any of the last 14 days would find less room. The old instance stays on "
        "standby for the rollback window."
    )
