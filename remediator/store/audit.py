"""The audit trail. Each entry's hash covers the entry and the hash of the one before it."""

import json
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import insert, select

from remediator.model import AuditEntry
from remediator.store.database import Connection
from remediator.store.facts import FactQueries
from remediator.store.lease import Replica
from remediator.store.schema import audit

ENGINE: Final = "engine"  # the actor where the engine itself decided
REGISTRATIONS: Final = ("deploy.asked", "adopt.asked")  # the events by which a bot comes into the registry
CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def chained(previous: str, row: Mapping[str, Any]) -> str:
    """Return the hash (hex) of an entry without its id and hash, on top of the `previous` one's."""
    return sha256(f"{previous}\n{CANONICAL.encode(row)}".encode()).hexdigest()


def row_of(
    event: str, bot: str, run_id: str, actor: str, detail: Mapping[str, Any], at: float
) -> dict[str, Any]:
    """Return what is hashed of an entry, with actor and bot as long as their columns are."""
    return {
        "at": at,
        "actor": actor[:255],
        "event": event,
        "bot": bot[:63],
        "run_id": run_id,
        "detail": detail,
    }


def verify_chain(entries: Iterable[AuditEntry], head: str) -> list[str]:
    """Return what was altered, removed or reordered, in words. `head`: the newest hash, kept apart."""
    faults: list[str] = []
    previous = ""
    for entry in entries:
        row = row_of(entry.event, entry.bot, entry.run_id, entry.actor, entry.detail, entry.at)
        if entry.hash != chained(previous, row):
            fault = "it was altered, or a row before it is missing or moved"
            faults.append(f"row {entry.id} ({entry.event}): {fault}")
        previous = entry.hash
    if previous != head:
        faults.append("the newest rows are missing: the trail does not end where it did")
    return faults


class AuditQueries(FactQueries):
    """The statements on `audit`, with a buffer of what is to be written."""

    def __init__(self, connection: Connection, now: float, replica: Replica) -> None:
        super().__init__(connection, now, replica)
        self._head: str | None = None
        self._entries: list[dict[str, Any]] = []

    async def flush_audit(self) -> None:
        """Write the buffered entries, and which is the newest."""
        if self._entries:
            await self.execute(insert(audit), self._entries)
            await self.set_fact("audit_head", self._head)
        self._entries = []

    async def audit(
        self, event: str, *, bot: str = "", run_id: str = "", actor: str = ENGINE, **detail: object
    ) -> None:
        if self._head is None:
            newest = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
            self._head = (await self.execute(newest)).scalar_one_or_none() or ""
        row = row_of(event, bot, run_id, actor, detail, self.now)
        self._head = chained(self._head, row)
        self._entries.append({"hash": self._head, **row})

    async def audit_trail(self, *, bot: str | None, after: int | None, limit: int) -> list[AuditEntry]:
        await self.flush_audit()
        statement = select(audit).limit(limit)
        if bot is not None:
            statement = statement.where(audit.c.bot == bot)
        if after is not None:
            return await self.all(AuditEntry, statement.where(audit.c.id > after).order_by(audit.c.id))
        newest = await self.all(AuditEntry, statement.order_by(audit.c.id.desc()))
        return newest[::-1]

    async def deployed_by(self, bots: Collection[str]) -> dict[str, str]:
        registrations = select(audit.c.bot, audit.c.actor).where(
            audit.c.event.in_(REGISTRATIONS), audit.c.bot.in_(list(bots))
        )
        rows = await self.execute(registrations.order_by(audit.c.id))
        return {row.bot: row.actor for row in rows}  # the newest: a name may be used again
