"""What to do with an alert: start a recovery, join one, or ignore it. Pure."""

import hashlib
from dataclasses import dataclass

from remediator.alerts.webhook import REMEDIATION_LABEL, Alert
from remediator.model import Bot, IgnoreReason, Run


@dataclass(frozen=True, slots=True)
class Start:
    """A new run, under an id that the same episode always gives."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Join:
    """The illness is in hand already: by a run that is active, or one that ended after the alert began."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing is begun."""

    reason: IgnoreReason


Decision = Start | Join | Ignore


def decide(
    alert: Alert,
    *,
    first_seen: float,
    bot: Bot | None,
    active: Run | None,
    own: Run | None,
    last: Run | None,
    now: float,
    relapse_after: float,
) -> Decision:
    """Decide on a firing alert. `own` is the run it belongs to until now, `last` the bot's most recent
    recovery that ended.

    An alert that began before either of them ended is the illness it dealt with: a resend, an HA twin, a
    late delivery; not even a newer run takes it over. One still being sent `relapse_after` seconds later
    never went away, and is taken for a new illness; the engine probes the bot itself before it believes
    it. A recovery that ended because its own alerts were resolved did not see the bot well, so it answers
    for no other alert.

    `first_seen` is by our clock: Prometheus's, which gave `startsAt`, may be ahead.
    """
    if not alert.bot:
        return Ignore("no_bot_label")
    if alert.labels.get(REMEDIATION_LABEL) != "auto":
        return Ignore("no_auto_remediation")
    if bot is None:
        return Ignore("unknown_bot")
    began = min(alert.started, first_seen)
    over = [run for run in (own, last) if run is not None and _dealt_with(run, began, now, relapse_after)]
    if active is not None:
        return Join(own.id if own is not None and own in over else active.id)
    if bot.quarantined_at is not None:
        return Ignore("quarantined")
    return Join(over[0].id) if over else Start(new_run_id(alert, first_seen, last))


def _dealt_with(run: Run, began: float, now: float, relapse_after: float) -> bool:
    """Return whether the run ended after the illness began, and not so long ago that it is a new one."""
    ended = run.finished_at
    return ended is not None and began <= ended and now - ended < relapse_after and run.status != "resolved"


def new_run_id(alert: Alert, first_seen: float, last: Run | None) -> str:
    """Return the id of the run that the alert starts, if it starts one; arguments as of `decide`."""
    began, relapse = min(alert.started, first_seen), 0
    if last is not None and last.finished_at is not None and began <= last.finished_at:
        relapse = int(last.finished_at * 1000)
    return run_id(alert.fingerprint, alert.started, relapse)


def run_id(fingerprint: str, started: float, relapse: int = 0) -> str:
    """Return the same id for the same episode, so that not even a lost answer makes two runs of it."""
    key = f"{fingerprint}:{started:.3f}:{relapse}"
    return "rec-" + hashlib.sha256(key.encode()).hexdigest()[:16]
