"""Whether what Prometheus says can be trusted at this moment, by every replica's word."""

from collections.abc import Mapping
from typing import Any, Final, Self

from remediator.monitoring.cached import Cached
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.notifications.messages import monitoring_lost, monitoring_restored
from remediator.recovery.gates import LONGEST_WAIT
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction

MISSED_REPORTS: Final = 3  # of a replica, until what it reported counts no more

Reports = Mapping[str, Mapping[str, Any]]
"""Replica → {"why": its problem, "at": when it last reported it (Unix seconds)}, as the store has it."""


class MonitoringStatus:
    """Asks Prometheus about the exporter, and tells people once when monitoring is lost or restored.

    Without a Prometheus in the settings, nothing is asked and nothing is wrong.
    """

    def __init__(self, prometheus: Prometheus | None, replica: str, expiry: float) -> None:
        self._replica = replica
        self._expiry = expiry  # seconds after which a report that is not repeated counts no more
        self._problem = Cached(lambda: monitoring_problem(prometheus))

    @classmethod
    def from_settings(cls, settings: Settings, store: Store, prometheus: Prometheus | None) -> Self:
        """Make it for this replica. One alone on its database goes on with its predecessor's reports."""
        expiry = MISSED_REPORTS * LONGEST_WAIT * settings.gate_interval
        return cls(prometheus, "" if store.alone else store.replica, expiry)

    async def problem(self) -> str:
        """Return why no alert can be trusted now; "" if they can."""
        return await self._problem.get()

    async def record(self, tx: Transaction, problem: str) -> None:
        """Write down this replica's report. Send one message when the first replica has a problem, and one
        when the last has none any more, however many runs wait.
        """
        fact = await tx.fact("blind")
        before = fact if isinstance(fact, dict) else {}
        after = blind_replicas(before, self._replica, problem, tx.now, self._expiry)
        if after == before:
            return
        await tx.set_fact("blind", after)
        if bool(after) != bool(before):
            reason = next(iter((after or before).values()))["why"]
            await tx.notify("", monitoring_lost(reason) if after else monitoring_restored())
            await tx.audit("monitoring.lost" if after else "monitoring.restored", why=reason)


async def monitoring_problem(prometheus: Prometheus | None) -> str:
    """Return why no alert can be trusted: all of them come from the exporter, by way of Prometheus."""
    if prometheus is None:
        return ""
    try:
        up = await prometheus.value('max(up{job="bot-exporter"})')
    except PrometheusError as error:
        return str(error)
    if up is None:
        return "Prometheus scrapes no exporter"
    return "" if up == 1 else "the exporter is down: nothing is known of any bot"


def blind_replicas(
    reports: Reports, replica: str, problem: str, now: float, expiry: float
) -> dict[str, dict[str, Any]]:
    """Return the reports of all replicas with a problem, after this one has reported `problem` ("": none).

    Each speaks for itself, so that a replica which sees does not contradict another which does not. One that
    has been silent for `expiry` seconds has died, or has no more runs that wait. A report that says the same
    is written down anew only when half of that has passed.
    """
    others = {
        name: dict(report)
        for name, report in reports.items()
        if name != replica and now - report["at"] < expiry
    }
    if not problem:
        return others
    before = reports.get(replica)
    repeated = before is not None and before["why"] == problem and now - before["at"] < expiry / 2
    return others | {
        replica: dict(before) if before is not None and repeated else {"why": problem, "at": now}
    }
