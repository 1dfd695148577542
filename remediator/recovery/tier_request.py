"""One tier to be carried out on one bot: what `tiers`, and below it `restarters`, are called with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from remediator.engine.journal import Journal
from remediator.model import Bot, Step, Tier


@dataclass(frozen=True, slots=True)
class TierRequest:
    """A tier whose intent is on disk: instance and boot of the bot are as they were then."""

    journal: Journal
    bot: Bot
    tier: Tier
    instance_id: str
    boot_id: str | None
    started_at: str | None
    began_at: float  # Unix time of the intent
    timeout: float  # seconds from then to the deadline
    waited: Mapping[str, int] = field(default_factory=dict)  # by channel: updates that waited then

    @classmethod
    def from_step(cls, journal: Journal, bot: Bot, tier: Tier, step: Step, timeout: float) -> Self:
        """Read the request from the step that the gatekeeper wrote."""
        before = step.request
        return cls(
            journal,
            bot,
            tier,
            instance_id=str(before["instance_id"]),
            boot_id=before.get("boot_id"),
            started_at=before.get("started_at"),
            began_at=step.intended_at,
            timeout=timeout,
            waited=before.get("waited") or {},
        )

    @property
    def idempotency_key(self) -> str:
        """Return what names this attempt and no other: a restart sent before a crash is found again by it."""
        return f"{self.journal.run.id} {self.tier}"

    @property
    def deadline(self) -> float:
        """Return the Unix time at which the tier has failed."""
        return self.began_at + self.timeout

    @property
    def host(self) -> str:
        """Return the bot's address without its port."""
        return self.bot.target().address.rpartition(":")[0].strip("[]")

    def now(self) -> float:
        """Return the store's time (Unix seconds)."""
        return self.journal.store.clock()

    def check_lease(self) -> None:
        """Raise LeaseLostError where the tier must not be done any more; called right before the effect."""
        self.journal.lease.check()
