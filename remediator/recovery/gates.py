"""May we act on this bot now, and if not, why? Pure: a situation in, one verdict a gate out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from remediator.model import (
    QUEUE_GATES,
    Approval,
    Bot,
    Effect,
    Hold,
    Mode,
    Run,
    StoredAlert,
    Symptom,
    Tier,
    Verdict,
)
from remediator.monitoring.alertmanager import Silences
from remediator.monitoring.prober import Observation
from remediator.recovery.dependencies import Dependency, held_by
from remediator.recovery.limits import Limits, tokens
from remediator.recovery.queues import Queue
from remediator.recovery.storm import Fleet, Storm, over_limit
from remediator.recovery.symptoms import Evidence, Queues, problem, symptoms_of

LONGEST_WAIT: Final = 4  # intervals after which the gates are asked again


@dataclass(frozen=True, slots=True)
class Proposal:
    """The tier that a run wants to begin on a bot."""

    run: Run
    bot: Bot
    tier: Tier
    climbing: bool  # a tier was tried before in this run
    waited: Mapping[str, int] | None = None  # by channel: updates that waited before the last tier


@dataclass(frozen=True, slots=True)
class Observations:
    """What the bot, the fleet, Prometheus and Alertmanager answered just before the gates are asked."""

    bot: Observation
    fleet: Fleet
    monitoring_problem: str  # why alerts cannot be trusted; empty if they can
    silences: Silences
    queues: Queues = field(default_factory=dict)  # of the bot's channels, where a run for a deaf bot asked


@dataclass(frozen=True, slots=True)
class Records:
    """What the store knows, read in the transaction in which the intent is written."""

    now: float
    run: Run | None  # as it is now
    alerts: Sequence[StoredAlert]  # of the run
    holds: Sequence[Hold]
    storm: Storm
    in_flight: Sequence[Bot]
    queue_position: int
    intents: Sequence[float]
    attempts: int
    approval: Approval | None
    dependencies: Sequence[Dependency] = ()
    queues: Mapping[str, Queue] = field(default_factory=dict)  # of the bot's channels, as last looked at


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the gates judge by, gathered just before a tier."""

    now: float
    tier: Tier
    bot: Bot
    trigger: Literal["alert", "manual"]
    climbing: bool  # a tier was tried before in this run
    bot_healthy: bool
    bot_detail: str  # what the live probe saw, in words
    alerts_firing: bool
    cancel: str | None  # who wants this run to end, and why
    holds: Sequence[str]  # pauses and maintenance windows of this bot, in words
    silenced: str  # by which of Alertmanager's silences; empty if by none
    monitoring_problem: str  # why alerts cannot be trusted; empty if they can
    fleet: Fleet
    storm: Storm
    in_flight: Sequence[Bot]  # others that are being acted on
    queue_position: int  # how many others have waited longer for a slot
    intents: Sequence[float]  # when recent actions began
    attempts: int  # tiers tried on this bot in a day
    mode: Mode
    approval: Approval | None
    dependency: str = ""  # why no tier would help: what the bot needs is away
    silences_doubt: str = ""  # why other silences may hold; empty where Alertmanager was asked
    unseen: str = ""  # the fault of ours for which the bot could not be looked at; empty if it was


def situation_of(
    proposal: Proposal,
    observations: Observations,
    records: Records,
    mode: Mode,
    turn_limit: float = math.inf,
) -> Situation:
    """Put together what was observed and what is recorded. `turn_limit`: seconds, see `Evidence`."""
    run, bot, now = proposal.run, proposal.bot, records.now
    symptoms, evidence = symptoms_of(records.alerts), evidence_of(proposal, observations, records, turn_limit)
    ill = problem(symptoms, evidence)
    labels = [alert.labels for alert in records.alerts] or [{"bot": bot.name, "template": bot.template}]
    return Situation(
        now=now,
        tier=proposal.tier,
        bot=bot,
        trigger=run.trigger,
        climbing=proposal.climbing,
        bot_healthy=not ill,
        bot_detail=ill or observations.bot.detail,
        alerts_firing=any(alert.status == "firing" for alert in records.alerts),
        cancel=records.run.cancel if records.run is not None else None,
        holds=[_describe(hold) for hold in records.holds if hold.covers(bot, now)],
        silenced=observations.silences.covering(labels),
        silences_doubt=observations.silences.doubt,
        monitoring_problem=observations.monitoring_problem,
        fleet=observations.fleet,
        storm=records.storm,
        in_flight=records.in_flight,
        queue_position=records.queue_position,
        intents=records.intents,
        attempts=records.attempts,
        mode=mode,
        approval=records.approval,
        dependency=_dependency_of(bot, symptoms, observations, records),
        unseen=observations.bot.detail if observations.bot.own_fault else "",
    )


def evidence_of(
    proposal: Proposal, observations: Observations, records: Records, turn_limit: float
) -> Evidence:
    """Return what is seen of the bot; before the first tier, a queue has to have stalled to count."""
    stalled = {
        channel
        for channel, answer in observations.queues.items()
        if (queue := records.queues.get(channel)) is not None
        and queue.stalled
        and answer.pending is not None
        and answer.pending >= queue.pending[-1]
    }
    waited = (proposal.waited or {}) if proposal.climbing else None
    return Evidence(observations.bot, turn_limit, observations.queues, frozenset(stalled), waited)


def _dependency_of(
    bot: Bot, symptoms: frozenset[Symptom], observations: Observations, records: Records
) -> str:
    """Return what the bot needs and does not have; "" for one that does not even answer."""
    if not observations.bot.healthy:
        return ""
    refusing = [channel for channel, answer in observations.queues.items() if answer.refused]
    if refusing and symptoms <= {"deaf", "down"}:
        return f"{', '.join(refusing)} refuses its token: it takes another one, from a person"
    shared = held_by(records.dependencies, bot, symptoms - {"down"})
    return f"{shared}: what they need is likely away, so nothing is done" if shared else ""


def _describe(hold: Hold) -> str:
    kind = "paused" if hold.ends_at is None else "maintenance"
    scope = hold.scope if hold.scope == "fleet" else f"{hold.scope} {hold.name}"
    return f"{kind} of the {scope} by {hold.actor}: {hold.reason}"


def judge(situation: Situation, limits: Limits) -> list[Verdict]:
    """Return one verdict a gate, in the order they are asked; all are judged, so that all can be shown."""
    verdicts = [
        _cancelled(situation),
        _healthy(situation),
        _resolved(situation),
        _paused(situation),
        _silenced(situation),
        _monitoring(situation, limits),
        _fleet(situation, limits),
        _dependency(situation),
        _in_flight(situation, limits),
        _rate(situation, limits),
        _attempts(situation, limits),
    ]
    waiting = decisive(verdicts) is not None
    return [*verdicts, _mode(situation, waiting)]


def decisive(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict that stops us: an end before a hold, a hold before an escalation; None means go."""
    for effect in (Effect.end, Effect.hold, Effect.escalate):
        for verdict in verdicts:
            if verdict.effect is effect:
                return verdict
    return None


def recheck_after(stop: Verdict, situation: Situation, limits: Limits, interval: float) -> float:
    """Return seconds until the gates are asked again: longer far back in the queue, whose head is woken
    anyway when a slot becomes free.
    """
    if stop.gate not in QUEUE_GATES:
        return interval
    return interval * min(LONGEST_WAIT, 1 + situation.queue_position // limits.max_in_flight)


def _go(gate: str, reason: str) -> Verdict:
    return Verdict(gate, Effect.go, reason)


def _unless_manual(situation: Situation, gate: str, effect: Effect, reason: str) -> Verdict:
    """Stop the machine, not a person."""
    if situation.trigger == "manual":
        return _go(gate, f"{reason}; a person asked all the same")
    return Verdict(gate, effect, reason)


def _cancelled(situation: Situation) -> Verdict:
    if situation.cancel is not None:
        return Verdict("cancelled", Effect.end, situation.cancel)
    return _go("cancelled", "nobody asked for its end")


def _healthy(situation: Situation) -> Verdict:
    if situation.unseen:
        return _go("healthy", f"not known: {situation.unseen}")
    if not situation.bot_healthy:
        return _go("healthy", f"the bot is ill: {situation.bot_detail}")
    if situation.climbing:  # a person may ask for a tier on a bot that is well, not for the harder ones
        return Verdict("healthy", Effect.end, "the bot is healthy now: nothing to do")
    return _unless_manual(situation, "healthy", Effect.end, "the bot is healthy now: nothing to do")


def _resolved(situation: Situation) -> Verdict:
    if situation.trigger == "manual":
        return _go("resolved", "a person asked")
    if situation.alerts_firing:
        return _go("resolved", "an alert is firing")
    return Verdict("resolved", Effect.end, "every alert that asked for this is resolved")


def _paused(situation: Situation) -> Verdict:
    if situation.holds:
        return _unless_manual(situation, "paused", Effect.hold, situation.holds[0])
    return _go("paused", "no pause and no maintenance window")


def _silenced(situation: Situation) -> Verdict:
    if situation.silenced:
        return _unless_manual(situation, "silenced", Effect.hold, situation.silenced)
    return _go("silenced", situation.silences_doubt or "no silence in Alertmanager")


def _monitoring(situation: Situation, limits: Limits) -> Verdict:
    if situation.unseen and situation.climbing:  # a person asked for the first tier, and for no harder one
        return Verdict("monitoring", Effect.hold, situation.unseen)
    reason = situation.unseen or situation.monitoring_problem or _shared_cause(situation, limits)
    if reason:
        return _unless_manual(situation, "monitoring", Effect.hold, reason)
    return _go("monitoring", "what we see can be trusted")


def _shared_cause(situation: Situation, limits: Limits) -> str:
    """Name the thing that every ill bot is behind, where there are bots without it that are well; else ""."""
    bot, entries = situation.bot, situation.fleet.entries
    if all(entry.ill for entry in entries):
        return ""  # the whole fleet is the fleet gate's
    for kind in ("zone", "template", "environment"):
        shared = getattr(bot, kind)
        group = [entry for entry in entries if shared and getattr(entry, kind) == shared]
        if len(group) >= limits.dependency_min and all(entry.ill for entry in group):
            return f"all {len(group)} bots of {kind} {shared} are ill: the cause is likely there"
    return ""


def _fleet(situation: Situation, limits: Limits) -> Verdict:
    fleet, storm = situation.fleet, situation.storm
    census = f"{fleet.unhealthy} of {fleet.judged} bots are ill ({fleet.ratio:.0%})"
    if fleet.set_aside:
        census += f" beside {fleet.set_aside} in quarantine"
    if fleet.probed < fleet.total:
        census += f", a sample of {fleet.total}"
    if fleet.unseen:
        reason = "no bot of the fleet could be looked at, by a fault of ours"
        return _unless_manual(situation, "fleet", Effect.hold, reason)
    census += f"; limit: {limits.fleet_max_ratio:.0%}, at least {limits.fleet_min_unhealthy}"
    if over_limit(fleet, limits):
        reason = f"{census}: the cause is likely shared, so nothing is done"
        return _unless_manual(situation, "fleet", Effect.hold, reason)
    if storm.active:
        left = storm.over_at + limits.storm_cooldown - situation.now
        reason = f"{census}; the storm is over only when it has stayed so for {left:.0f} s more"
        return _unless_manual(situation, "fleet", Effect.hold, reason)
    return _go("fleet", census)


def _dependency(situation: Situation) -> Verdict:
    if situation.dependency:
        return _unless_manual(situation, "dependency", Effect.hold, situation.dependency)
    return _go("dependency", "nothing that it needs is known to be away")


def _in_flight(situation: Situation, limits: Limits) -> Verdict:
    """Hold a person back too: the caps are what the rest of the fleet can bear at once."""
    bot, others = situation.bot, situation.in_flight
    same_template = sum(other.template == bot.template for other in others)
    same_zone = sum(bool(bot.zone) and other.zone == bot.zone for other in others)
    for count, cap, group in (
        (len(others), limits.max_in_flight, "other bots"),
        (same_template, limits.max_per_template, f"other bots of template {bot.template}"),
        (same_zone, limits.max_per_zone, f"other bots in zone {bot.zone}"),
    ):
        if count >= cap:
            return Verdict("in_flight", Effect.hold, f"{count} {group} are being acted on; limit: {cap}")
    if len(others) + situation.queue_position >= limits.max_in_flight:
        return Verdict("in_flight", Effect.hold, f"{situation.queue_position} other bots have waited longer")
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
        reason = f"{situation.attempts} attempts on this bot in 24 h; limit: {limits.max_attempts}"
        return _unless_manual(situation, "attempts", Effect.escalate, reason)
    return _go("attempts", f"{situation.attempts} of {limits.max_attempts} attempts in 24 h")


def _mode(situation: Situation, waiting: bool) -> Verdict:
    """Judge last: a person is not bothered with what another gate would hold back."""
    mode, approval = situation.mode, situation.approval
    rule = f"{situation.tier} in {situation.bot.environment} is {mode}"
    if situation.trigger == "manual" or mode == "auto":
        return _go("mode", "a person asked" if situation.trigger == "manual" else rule)
    if mode == "shadow":
        return _go("mode", f"{rule}: it is written down, not done")
    if approval is not None and approval.decision == "yes":
        return _go("mode", f"{approval.actor} approved")
    if approval is not None and approval.decision == "no":
        return Verdict("mode", Effect.escalate, f"{approval.actor} denied it")
    if approval is not None and situation.now >= approval.expires_at:
        return Verdict("mode", Effect.escalate, f"nobody approved {situation.tier} in time")
    if waiting:
        return _go("mode", f"{rule}: a person will be asked once nothing else holds it back")
    return Verdict("mode", Effect.hold, f"{rule}: waiting for a person's yes")
