"""Who drives a run. A replica acts on it only while it can prove that the run is still its own."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

OWN_GRACE: Final = 60.0  # seconds a request may take for the first step of the run it began


class LeaseLostError(Exception):
    """Another replica has the run, or may have it: whatever was about to be done here must not be."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A process of this service. `alone`: no other can be at work on its database."""

    name: str
    lease_seconds: float
    alone: bool


@dataclass(slots=True)
class Lease:
    """`fence` grows with each owner; every write of a run is refused under an old one.

    `held_until` is on this machine's monotonic clock, and counted from before the database was asked: it
    errs on the safe side.
    """

    run_id: str
    fence: int
    held_until: float
    monotonic: Callable[[], float] = time.monotonic

    def check(self) -> None:
        """Raise LeaseLostError once the lease cannot be proved; called right before every effect."""
        if self.monotonic() >= self.held_until:
            raise LeaseLostError(self.run_id)


def may_lead(leadership: Mapping[str, Any] | None, replica: str, now: float) -> bool:
    """Return whether a role is free for the replica: nobody's, its own, or its leader's time is over."""
    return not leadership or leadership["replica"] == replica or leadership["until"] < now
