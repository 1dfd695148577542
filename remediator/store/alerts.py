"""The alerts that were received. Of a payload's thousand, each is read and written with a few others."""

from collections.abc import Collection
from dataclasses import replace
from operator import attrgetter
from typing import Final

from sqlalchemy import bindparam, func, insert, or_, select, tuple_, update

from remediator.model import Episode, StoredAlert
from remediator.store.database import Connection
from remediator.store.lease import Replica
from remediator.store.schema import alerts
from remediator.store.statements import Statements

CHANGEABLE: Final = ("status", "last_seen", "times_seen", "run_id", "ignored")
FIELDS: Final = tuple(alerts.c.keys())
VALUES: Final = attrgetter(*FIELDS)
_other = alerts.alias("other")
_newest = select(func.max(_other.c.starts_at)).where(_other.c.fingerprint == alerts.c.fingerprint)
_PRESENT: Final = select(alerts).where(
    or_(alerts.c.status == "firing", alerts.c.starts_at == _newest.scalar_subquery())
)


class AlertQueries(Statements):
    """The statements on `alerts`, with a buffer of what is to be written."""

    def __init__(self, connection: Connection, now: float, replica: Replica) -> None:
        super().__init__(connection, now, replica)
        self._loaded: set[Episode] = set()  # those of them that are stored are in _alerts
        self._alerts: dict[Episode, StoredAlert] = {}
        self._starts: dict[str, set[float]] = {}  # of the episodes in _alerts, by fingerprint
        self._new: dict[Episode, None] = {}
        self._changed: dict[Episode, None] = {}

    async def flush_alerts(self) -> None:
        """Write what was buffered: a thousand alerts take a few statements, not thousands."""
        if self._new:
            rows = [dict(zip(FIELDS, VALUES(self._alerts[key]), strict=True)) for key in self._new]
            await self.execute(insert(alerts), rows)
        if self._changed:
            episode = (alerts.c.fingerprint == bindparam("of")) & (alerts.c.starts_at == bindparam("since"))
            changed = update(alerts).where(episode)
            changed = changed.values({name: bindparam(f"new_{name}") for name in CHANGEABLE})
            await self.execute(
                changed,
                [
                    {"of": key[0], "since": key[1]}
                    | {f"new_{name}": getattr(self._alerts[key], name) for name in CHANGEABLE}
                    for key in self._changed
                ],
            )
        self._new, self._changed = {}, {}

    async def alert(self, fingerprint: str, starts_at: float) -> StoredAlert | None:
        episode = (fingerprint, starts_at)
        if episode not in self._loaded:
            await self.load_alerts([episode])
        return self._alerts.get(episode)

    async def load_alerts(self, episodes: Collection[Episode]) -> None:
        fingerprints = {fingerprint for fingerprint, _ in episodes} - self._starts.keys()
        for alert in await self.where_in(StoredAlert, _PRESENT, alerts.c.fingerprint, fingerprints):
            self._keep(alert)
        for fingerprint in fingerprints:
            self._starts.setdefault(fingerprint, set())
        earlier = {episode for episode in episodes if self._may_be_stored(episode)}
        key = tuple_(alerts.c.fingerprint, alerts.c.starts_at)
        for alert in await self.where_in(StoredAlert, select(alerts), key, earlier):
            self._keep(alert)
        self._loaded |= set(episodes)

    def _keep(self, alert: StoredAlert) -> None:
        self._alerts[alert.episode] = alert
        self._starts.setdefault(alert.fingerprint, set()).add(alert.starts_at)

    def _may_be_stored(self, episode: Episode) -> bool:
        """Return whether an episode that was not read with its fingerprint may be stored: an earlier one."""
        fingerprint, starts_at = episode
        return episode not in self._alerts and starts_at < max(self._starts[fingerprint], default=starts_at)

    async def present_episodes(self, fingerprint: str) -> list[StoredAlert]:
        return [self._alerts[fingerprint, starts_at] for starts_at in self._starts.get(fingerprint, ())]

    async def add_alert(self, alert: StoredAlert) -> None:
        self._keep(alert)
        self._new[alert.episode] = None

    async def change_alert(self, alert: StoredAlert, **changes: object) -> None:
        episode = alert.episode
        self._alerts[episode] = replace(self._alerts.get(episode, alert), **changes)  # type: ignore[arg-type]
        if episode not in self._new:
            self._changed[episode] = None

    async def alerts_of(self, run_id: str) -> list[StoredAlert]:
        await self.flush_alerts()
        of_run = select(alerts).where(alerts.c.run_id == run_id)
        return await self.all(StoredAlert, of_run.order_by(alerts.c.first_seen))

    async def firing_alerts(self, limit: int) -> list[StoredAlert]:
        await self.flush_alerts()
        firing = select(alerts).where(alerts.c.status == "firing")
        return await self.all(StoredAlert, firing.order_by(alerts.c.last_seen.desc()).limit(limit))
