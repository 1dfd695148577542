"""The seam between the fleet, which decides when to probe, and a transport, which probes."""

from collections.abc import Callable
from typing import Protocol

from exporter.result import ProbeResult
from exporter.targets import Target

# None: the probe could not be made, for want of something of ours, and says nothing about the bot.
Done = Callable[[ProbeResult | None], None]


class Prober(Protocol):
    """A transport. Each probe ends in exactly one call of `done`, unless the prober is closed first."""

    def start(self, target: Target, done: Done) -> None:
        """Start a probe, which ends in a call of `done`."""

    async def close(self) -> None:
        """Abandon the probes under way, without calling their `done`."""
