"""Probes of our own: is this bot healthy now, and is it healthy for good?

Recoveries, deployments, rollouts and the detector of drift ask here, whatever Prometheus says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from exporter.probing.probe import OwnFaultError, ProbeResult, Session, probe
from exporter.targets import Target
from remediator.monitoring.work import Work


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one probe; `detail` is for the person who asks why."""

    healthy: bool
    detail: str
    boot_id: str | None = None
    started_at: str | None = None
    config_sha: str | None = None
    work: Work = field(default_factory=Work)
    own_fault: bool = False
    """Whether nothing was observed, for want of something of ours: no verdict on the bot."""


Reject = Callable[[Observation], Awaitable[str | None]]
"""Says why a healthy answer does not count; None where it does."""


def observation_of(result: ProbeResult) -> Observation:
    """Judge by /health alone; what the bot tells of its work is for those who ask about that."""
    health = result.health
    detail = (
        f"/health ok in {health.seconds:.3f} s" if health.ok else f"/health: {health.reason}: {health.detail}"
    )
    facts = result.facts  # as the exporter publishes them: an alert and its cure go by the same numbers
    channels = None if facts.channels is None else dict(facts.channels)
    work = Work(channels, facts.turn_age_seconds, facts.requests, facts.failures)
    return Observation(health.ok, detail, facts.boot_id, facts.started_at, facts.config_sha, work)


async def accept(_: Observation) -> None:
    """Reject no healthy answer."""


@dataclass
class Prober:
    """Probes bots over one HTTP session."""

    session: Session
    timeout: float  # of one probe, seconds
    interval: float  # between two probes of a verification, seconds
    needed: int  # healthy probes in a row

    async def probe_once(self, target: Target) -> Observation:
        """Probe the bot; a target without an address is not healthy."""
        if not target.address:
            return Observation(False, "it has no address")
        try:
            return observation_of(await probe(self.session, target, timeout=self.timeout))
        except OwnFaultError as fault:
            return Observation(False, f"not probed: {fault}", own_fault=True)

    async def verify(
        self, target: Target, patience: float, reject: Reject = accept, *, window: float = 0
    ) -> tuple[bool, Observation]:
        """Return whether the bot is well for good, and the last observation.

        Well for good: `needed` healthy probes in a row, and no ill one in `window` seconds. The bot has
        `patience` seconds to become healthy. A run resumed long after that still gives it a fair chance,
        because a healthy streak is never cut; but a bot that was healthy so often and falls ill within the
        window is not well. Where the last probe failed by a fault of ours (`own_fault`) there is no verdict.
        """
        loop = asyncio.get_running_loop()
        deadline, streak, since = loop.time() + patience, 0, 0.0
        while True:
            observation = await self.probe_once(target)
            if observation.own_fault:
                if loop.time() >= deadline:
                    return False, observation
                await asyncio.sleep(self.interval)
                continue
            rejection = await reject(observation) if observation.healthy else None
            if rejection is not None:
                observation = replace(observation, healthy=False, detail=rejection)
            if observation.healthy:
                since = since if streak else loop.time()
                streak += 1
                if streak >= self.needed and loop.time() - since >= window:
                    return True, observation
            elif streak >= self.needed:
                detail = f"ill again after {streak} healthy probes: {observation.detail}"
                return False, replace(observation, detail=detail)
            else:
                streak = 0
                if loop.time() >= deadline:
                    return False, observation
            await asyncio.sleep(self.interval)
