"""Alertmanager's webhook, version 4: the payload as typed alerts, and what each asks of us. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from remediator.errors import RequestError
from remediator.model import Bot, Run

BOT_LABEL: Final = "bot"
REMEDIATION_LABEL: Final = "remediation"


def _epoch(value: datetime) -> datetime:
    if value.year < 1970:
        raise ValueError("must be a time since 1970")
    return value


class Alert(BaseModel):
    """One member of a payload. `fingerprint` + `startsAt` is the key of its episode."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: Annotated[AwareDatetime, AfterValidator(_epoch)] = Field(alias="startsAt")
    fingerprint: Annotated[str, Field(min_length=1, max_length=64)]

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")[:255]

    @property
    def bot(self) -> str:
        return self.labels.get(BOT_LABEL, "")

    @property
    def started(self) -> float:
        return self.starts_at.timestamp()

    @property
    def episode(self) -> tuple[str, float]:
        return self.fingerprint, self.started


class Webhook(BaseModel):
    """What is used of a payload; `status` of the group says nothing about a member and is not read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["4"]
    alerts: list[Alert]
    truncated: Annotated[int, Field(alias="truncatedAlerts", ge=0, lt=2**31)] = 0


def parse(payload: object) -> Webhook:
    """Raises RequestError 400 naming the first field that is wrong."""
    try:
        return Webhook.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            400,
            f"no Alertmanager webhook: {first['msg']}",
            field=field or "body",
            remedy="send Alertmanager's webhook payload, version 4, as JSON",
        ) from None


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
    reason: str


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
    """What a firing alert asks of us. `own` is the run it belongs to until now, `last` the bot's most recent
    recovery that ended.

    An alert that began before either of them ended is the illness it dealt with: a resend, an HA twin, a
    late delivery; not even a newer run takes it over. One still being sent `relapse_after` seconds later
    never went away, and is taken for a new illness; the engine looks at the bot itself before it believes
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

    def dealt_with(run: Run) -> bool:
        ended = run.finished_at
        return (
            ended is not None and began <= ended and now - ended < relapse_after and run.status != "resolved"
        )

    if active is not None:
        return Join(own.id if own is not None and dealt_with(own) else active.id)
    if bot.quarantined_at is not None:
        return Ignore("quarantined")
    for run in (own, last):
        if run is not None and dealt_with(run):
            return Join(run.id)
    relapse = 0
    if last is not None and last.finished_at is not None and began <= last.finished_at:
        relapse = int(last.finished_at * 1000)
    return Start(run_id(alert.fingerprint, alert.started, relapse))


def run_id(fingerprint: str, started: float, relapse: int = 0) -> str:
    """The same episode gives the same id, so that not even a lost answer makes two runs of it."""
    key = f"{fingerprint}:{started:.3f}:{relapse}"
    return "rec-" + hashlib.sha256(key.encode()).hexdigest()[:16]
