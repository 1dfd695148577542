"""Who drives a run. A replica acts on it only while it can prove that the run is still its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass


class LeaseLostError(Exception):
    """Another replica has the run, or may have it: whatever was about to be done here must not be."""


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
        """Raises LeaseLostError once the lease cannot be proved; called right before every effect."""
        if self.monotonic() >= self.held_until:
            raise LeaseLostError(self.run_id)
