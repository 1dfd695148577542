"""The rows of the store as frozen values, and the few plain values that several packages share."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from exporter.targets import Target

Tier = Literal["restart", "reboot", "redeploy"]
Symptom = Literal["down", "deaf", "mute", "stuck"]
# What an alert says of a bot. down: it does not answer; deaf: a channel of it is down, or what people wrote
# waits; mute: its turns fail; stuck: a turn does not end.
RunKind = Literal["recover", "deploy", "redeploy", "retire", "adopt"]
RUN_PREFIXES: Final[Mapping[RunKind, str]] = {
    "recover": "rec",
    "deploy": "dep",
    "redeploy": "red",
    "retire": "ret",
    "adopt": "ado",
}
StepState = Literal["intended", "acted", "done", "cured", "not_cured", "failed", "shadowed"]


@dataclass(frozen=True, slots=True)
class Bot:
    name: str
    template: str
    environment: str
    state: Literal["deploying", "active", "retiring"]
    address: str
    health_path: str
    mesh_path: str
    instance_id: str
    config: Mapping[str, Any]
    config_sha: str
    boot_id: str | None
    started_at: str | None
    zone: str
    quarantined_at: float | None
    quarantine_reason: str | None
    attempts_from: float
    created_at: float
    updated_at: float
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of its template's fields, as it runs now
    version: int = 0  # of `config`; 0: it has none of its own yet
    standby_instance_id: str = ""  # the instance before this one, stopped, during the rollback window
    standby_until: float | None = None  # then it is terminated
    allocation_id: str = ""  # of its Elastic IP, if it has one

    @classmethod
    def registered(
        cls,
        name: str,
        config: Mapping[str, Any],
        config_sha: str,
        *,
        overrides: Mapping[str, Any],
        instance_id: str = "",
        address: str = "",
        version: int = 0,
        at: float = 0,
    ) -> "Bot":
        """Return a bot of this configuration that is about to be deployed or adopted."""
        return cls(
            name=name,
            template=config["template"],
            environment=config["environment"],
            state="deploying",
            address=address,
            health_path=config["probe"]["health_path"],
            mesh_path=config["probe"]["mesh_path"],
            instance_id=instance_id,
            config=config,
            config_sha=config_sha,
            boot_id=None,
            started_at=None,
            zone="",
            quarantined_at=None,
            quarantine_reason=None,
            attempts_from=0,
            created_at=at,
            updated_at=at,
            overrides=overrides,
            version=version,
        )

    def target(self, address: str = "") -> Target:
        """Return how to probe the bot, at its registered address or at another."""
        return Target(
            bot=self.name,
            address=address or self.address,
            health_path=self.health_path,
            mesh_path=self.mesh_path,
            template=self.template,
            environment=self.environment,
            instance_id=self.instance_id,
        )


Origin = Literal["deploy", "change", "rollback", "redeploy", "adopt"]


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """A configuration of a bot, for good. `diff`: {"path", "from", "to"} against the version before it."""

    bot: str
    version: int  # 1, 2, … of the bot; no number is used twice
    config: Mapping[str, Any]
    config_sha: str
    overrides: Mapping[str, Any]
    at: float
    actor: str
    reason: str
    origin: Origin
    diff: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    kind: RunKind
    bot: str
    trigger: Literal["alert", "manual"]
    method: str
    status: str
    reason: str
    tier: str
    created_at: float
    finished_at: float | None
    owner: str | None = None
    lease_until: float | None = None
    fence: int = 0
    cancel: str | None = None

    @classmethod
    def begin(
        cls,
        kind: RunKind,
        *,
        bot: str,
        reason: str,
        at: float,
        trigger: Literal["alert", "manual"] = "manual",
        method: str = "",
        run_id: str = "",
    ) -> "Run":
        """Return a new run (at: Unix seconds), with an id of its own if none is given.

        One that scaling begins is manual, too: no alert asked for it.
        """
        run_id = run_id or f"{RUN_PREFIXES[kind]}-{secrets.token_hex(8)}"
        return cls(run_id, kind, bot, trigger, method, "running", reason, "", at, None)

    @property
    def path(self) -> str:
        """Return the path at which the API shows the run."""
        return f"/{'recover' if self.kind == 'recover' else 'deploy'}/{self.id}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, and why."""

    outcome: Literal[
        "recovered",
        "unneeded",
        "resolved",
        "escalated",
        "cancelled",
        "shadowed",
        "deployed",
        "adopted",
        "retired",
        "failed",
    ]
    reason: str
    given_up: bool = False  # by a fault of ours: what there is stays as it stands, for a person


@dataclass(frozen=True, slots=True)
class Step:
    id: int
    run_id: str
    name: str
    state: StepState
    request: Mapping[str, Any]
    result: Mapping[str, Any]
    detail: str
    intended_at: float
    acted_at: float | None
    finished_at: float | None


Episode = tuple[str, float]
"""The key of an alert, as Alertmanager has it: fingerprint, startsAt (Unix seconds)."""


@dataclass(frozen=True, slots=True)
class StoredAlert:
    fingerprint: str
    starts_at: float
    name: str
    bot: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    first_seen: float
    last_seen: float
    times_seen: int
    run_id: str | None
    ignored: str

    @property
    def episode(self) -> Episode:
        return self.fingerprint, self.starts_at

    @property
    def began(self) -> tuple[float, float]:
        """Return what orders it among its fingerprint's episodes: when it began by our clock, which that of
        Prometheus may be ahead of, and by Prometheus's (Unix seconds).
        """
        return min(self.starts_at, self.first_seen), self.starts_at


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    id: int
    run_id: str
    at: float
    tier: str
    gate: str
    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    id: int
    at: float
    actor: str
    event: str
    bot: str
    run_id: str
    detail: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause or a maintenance window."""

    id: int
    scope: Literal["fleet", "template", "environment", "bot"]
    name: str
    reason: str
    actor: str
    starts_at: float
    ends_at: float | None

    def covers(self, bot: Bot, now: float) -> bool:
        """Return whether recovery of the bot is held back by it now (Unix seconds)."""
        if now < self.starts_at or (self.ends_at is not None and now >= self.ends_at):
            return False
        names = {"template": bot.template, "environment": bot.environment, "bot": bot.name}
        return self.scope == "fleet" or names[self.scope] == self.name


@dataclass(frozen=True, slots=True)
class Approval:
    run_id: str
    tier: str
    asked_at: float
    expires_at: float
    decision: Literal["", "yes", "no"]
    actor: str


@dataclass(frozen=True, slots=True)
class Notification:
    id: int
    at: float
    run_id: str
    text: str
    tries: int
    error: str
    sent_at: float | None


Mode = Literal["auto", "approve", "shadow"]
IgnoreReason = Literal["no_auto_remediation", "no_bot_label", "unknown_bot", "quarantined", "malformed"]


class Effect(StrEnum):
    """What a gate does to a tier."""

    go = "go"
    hold = "hold"  # ask again later
    end = "end"  # nothing is left to do
    escalate = "escalate"  # a person has to


QUEUE_GATES: Final = ("in_flight", "rate")
"""The gates whose held runs form a queue. A run that is held has `GATE: why` as its reason."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of a tier that is about to begin."""

    gate: str
    effect: Effect
    reason: str


TIERS: Final[tuple[Tier, ...]] = ("restart", "reboot", "redeploy")
