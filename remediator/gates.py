"""May we act on this bot now, and if not, why? Pure: a situation in, one verdict a gate out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from remediator.model import Approval, Bot, Tier

Mode = Literal["auto", "approve", "shadow"]
LONGEST_ROUND: Final = 4


class Effect(StrEnum):
    go = "go"
    hold = "hold"  # ask again later
    end = "end"  # nothing is left to do
    escalate = "escalate"  # a person has to


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: str
    effect: Effect
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One bot of a census, and what it may share with others."""

    template: str
    environment: str
    zone: str
    ill: bool
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a look at the fleet of `total` bots saw; a large one is judged by a sample."""

    total: int
    seen: tuple[Seen, ...] = ()

    @property
    def probed(self) -> int:
        return len(self.seen)

    @property
    def unhealthy(self) -> int:
        return sum(one.ill and not one.quarantined for one in self.seen)

    @property
    def set_aside(self) -> int:
        """Ill ones in quarantine: a person has them, and they keep nobody else from being healed."""
        return sum(one.ill and one.quarantined for one in self.seen)

    @property
    def judged(self) -> int:
        return self.probed - self.set_aside

    @property
    def ratio(self) -> float:
        return self.unhealthy / self.judged if self.judged else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    fleet_max_ratio: float
    fleet_min_unhealthy: int
    storm_cooldown: float  # seconds
    dependency_min: int  # bots that share something, from which "all of them are ill" means that thing
    max_in_flight: int
    max_per_template: int
    max_per_zone: int
    burst: int  # actions at once
    refill: float  # seconds until there may be one more
    max_attempts: int  # tiers tried on a bot in a day


@dataclass(frozen=True, slots=True)
class Storm:
    """`over_at`: when the fleet was last seen over its limit (Unix seconds)."""

    active: bool = False
    since: float = 0
    over_at: float = 0

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> "Storm":
        """As the store has it; none is on where nothing is kept."""
        return cls(**kept) if kept else cls()


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the gates look at, gathered just before a tier."""

    now: float
    tier: Tier
    bot: Bot
    trigger: Literal["alert", "manual"]
    climbing: bool  # a tier was tried before in this run
    bot_healthy: bool
    bot_seen: str  # what the live probe saw, in words
    alerts_firing: bool
    cancel: str | None  # who asked for the end of this run, and why
    holds: Sequence[str]  # pauses and maintenance windows of this bot, in words
    silenced: str  # by which of Alertmanager's silences; empty if by none
    blind: str  # why we cannot trust what we see; empty if we can
    fleet: Fleet
    storm: Storm
    in_flight: Sequence[Bot]  # others that are being acted on
    ahead: int  # others that have waited longer for a place
    intents: Sequence[float]  # when recent actions began
    attempts: int  # tiers tried on this bot in a day
    mode: Mode
    approval: Approval | None


def judge(situation: Situation, limits: Limits) -> list[Verdict]:
    """One verdict a gate, in the order they are asked; all are judged, so that all can be shown."""
    verdicts = [
        _cancelled(situation),
        _healthy(situation),
        _resolved(situation),
        _held(situation),
        _silenced(situation),
        _sight(situation, limits),
        _fleet(situation, limits),
        _in_flight(situation, limits),
        _rate(situation, limits),
        _attempts(situation, limits),
    ]
    waiting = decisive(verdicts) is not None
    return [*verdicts, _mode(situation, waiting)]


def decisive(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that stops us: an end before a hold, a hold before an escalation; None means go."""
    for effect in (Effect.end, Effect.hold, Effect.escalate):
        for verdict in verdicts:
            if verdict.effect is effect:
                return verdict
    return None


def over_limit(fleet: Fleet, limits: Limits) -> bool:
    """More bots ill than one recovery after another should mend: the cause is likely shared.

    So it is where more of them than that ended in quarantine, one after the other.
    """
    return fleet.unhealthy > _most(fleet.judged, limits) or fleet.set_aside > _most(fleet.probed, limits)


def _most(bots: int, limits: Limits) -> int:
    # 1e-9: 0.3 * 10 is 3.0000000000000004 or 2.9999999999999996, depending on the numbers
    return max(limits.fleet_min_unhealthy, math.floor(limits.fleet_max_ratio * bots + 1e-9))


def weather(before: Storm, fleet: Fleet, now: float, limits: Limits) -> Storm:
    """A storm begins with the first look over the limit, and ends a cool-down after the last."""
    if over_limit(fleet, limits):
        return Storm(True, before.since if before.active else now, now)
    if before.active and now - before.over_at < limits.storm_cooldown:
        return before
    return Storm(False, before.since, before.over_at)


def rounds(situation: Situation, limits: Limits) -> int:
    """In how many rounds to ask again. Whoever stands far back in the queue is asked less often.

    Nothing is lost by it: whoever is at its head is told when a place becomes free.
    """
    return min(LONGEST_ROUND, 1 + situation.ahead // limits.max_in_flight)


def tokens(intents: Sequence[float], now: float, limits: Limits) -> float:
    """What is left in the bucket: full at first, one taken for each action, one added every `refill`."""
    level, at = float(limits.burst), -math.inf
    for began in intents:
        level = min(limits.burst, level + (began - at) / limits.refill) - 1
        at = began
    return min(limits.burst, level + (now - at) / limits.refill)


def _go(gate: str, why: str) -> Verdict:
    return Verdict(gate, Effect.go, why)


def _unless_asked(situation: Situation, gate: str, effect: Effect, why: str) -> Verdict:
    """What stops the machine does not stop a person."""
    if situation.trigger == "manual":
        return _go(gate, f"{why}; a person asked all the same")
    return Verdict(gate, effect, why)


def _cancelled(situation: Situation) -> Verdict:
    if situation.cancel is not None:
        return Verdict("cancelled", Effect.end, situation.cancel)
    return _go("cancelled", "nobody asked for its end")


def _healthy(situation: Situation) -> Verdict:
    if not situation.bot_healthy:
        return _go("healthy", f"the bot is ill: {situation.bot_seen}")
    if situation.climbing:  # a person may ask for a tier on a bot that is well, not for the harder ones
        return Verdict("healthy", Effect.end, "the bot is healthy now: nothing to do")
    return _unless_asked(situation, "healthy", Effect.end, "the bot is healthy now: nothing to do")


def _resolved(situation: Situation) -> Verdict:
    if situation.trigger == "manual":
        return _go("resolved", "a person asked")
    if situation.alerts_firing:
        return _go("resolved", "an alert is firing")
    return Verdict("resolved", Effect.end, "every alert that asked for this is resolved")


def _held(situation: Situation) -> Verdict:
    if situation.holds:
        return _unless_asked(situation, "paused", Effect.hold, situation.holds[0])
    return _go("paused", "no pause and no maintenance window")


def _silenced(situation: Situation) -> Verdict:
    if situation.silenced:
        return _unless_asked(situation, "silenced", Effect.hold, situation.silenced)
    return _go("silenced", "no silence in Alertmanager")


def _sight(situation: Situation, limits: Limits) -> Verdict:
    why = situation.blind or _dependency(situation, limits)
    if why:
        return _unless_asked(situation, "sight", Effect.hold, why)
    return _go("sight", "what we see can be trusted")


def _dependency(situation: Situation, limits: Limits) -> str:
    """Every bot behind one thing is ill, and there are bots without it that are well: it is the thing."""
    bot, seen = situation.bot, situation.fleet.seen
    if not any(not one.ill for one in seen):
        return ""  # the whole fleet is the fleet gate's
    for kind in ("zone", "template", "environment"):
        shared = getattr(bot, kind)
        group = [one for one in seen if shared and getattr(one, kind) == shared]
        if len(group) >= limits.dependency_min and all(one.ill for one in group):
            return f"all {len(group)} bots of {kind} {shared} are ill: the cause is likely there"
    return ""


def _fleet(situation: Situation, limits: Limits) -> Verdict:
    fleet, storm = situation.fleet, situation.storm
    seen = f"{fleet.unhealthy} of {fleet.judged} bots are ill ({fleet.ratio:.0%})"
    if fleet.set_aside:
        seen += f" beside {fleet.set_aside} in quarantine"
    if fleet.probed < fleet.total:
        seen += f", a sample of {fleet.total}"
    seen += f"; limit: {limits.fleet_max_ratio:.0%}, at least {limits.fleet_min_unhealthy}"
    if over_limit(fleet, limits):
        why = f"{seen}: the cause is likely shared, so nothing is done"
        return _unless_asked(situation, "fleet", Effect.hold, why)
    if storm.active:
        left = storm.over_at + limits.storm_cooldown - situation.now
        why = f"{seen}; the storm is over only when it has stayed so for {left:.0f} s more"
        return _unless_asked(situation, "fleet", Effect.hold, why)
    return _go("fleet", seen)


def _in_flight(situation: Situation, limits: Limits) -> Verdict:
    """The caps hold for a person too: they are what the rest of the fleet can bear at once."""
    bot, others = situation.bot, situation.in_flight
    alike = sum(other.template == bot.template for other in others)
    near = sum(bool(bot.zone) and other.zone == bot.zone for other in others)
    for count, most, what in (
        (len(others), limits.max_in_flight, "other bots"),
        (alike, limits.max_per_template, f"other bots of template {bot.template}"),
        (near, limits.max_per_zone, f"other bots in zone {bot.zone}"),
    ):
        if count >= most:
            return Verdict("in_flight", Effect.hold, f"{count} {what} are being acted on; limit: {most}")
    if len(others) + situation.ahead >= limits.max_in_flight:
        return Verdict("in_flight", Effect.hold, f"{situation.ahead} other bots have waited longer")
    return _go("in_flight", f"{len(others)} other bots are being acted on; limit: {limits.max_in_flight}")


def _rate(situation: Situation, limits: Limits) -> Verdict:
    left = tokens(situation.intents, situation.now, limits)
    # 1e-6: sums of seconds since 1970 are no exacter than that
    if left < 1 - 1e-6:
        wait = (1 - left) * limits.refill
        return Verdict("rate", Effect.hold, f"too many actions at once; one more in {wait:.0f} s")
    return _go("rate", f"{math.floor(left + 1e-6)} actions left at once")


def _attempts(situation: Situation, limits: Limits) -> Verdict:
    if situation.attempts >= limits.max_attempts:
        why = f"{situation.attempts} attempts on this bot in 24 h; limit: {limits.max_attempts}"
        return _unless_asked(situation, "attempts", Effect.escalate, why)
    return _go("attempts", f"{situation.attempts} of {limits.max_attempts} attempts in 24 h")


def _mode(situation: Situation, waiting: bool) -> Verdict:
    """Asked last: a person is not bothered with what another gate would hold back."""
    mode, approval = situation.mode, situation.approval
    where = f"{situation.tier} in {situation.bot.environment} is {mode}"
    if situation.trigger == "manual" or mode == "auto":
        return _go("mode", "a person asked" if situation.trigger == "manual" else where)
    if mode == "shadow":
        return _go("mode", f"{where}: it is written down, not done")
    if approval is not None and approval.decision == "yes":
        return _go("mode", f"{approval.actor} approved")
    if approval is not None and approval.decision == "no":
        return Verdict("mode", Effect.escalate, f"{approval.actor} denied it")
    if approval is not None and situation.now >= approval.expires_at:
        return Verdict("mode", Effect.escalate, f"nobody approved {situation.tier} in time")
    if waiting:
        return _go("mode", f"{where}: a person will be asked once nothing else holds it back")
    return Verdict("mode", Effect.hold, f"{where}: waiting for a person's yes")
