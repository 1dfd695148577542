"""A backup's state into an empty database.

Everything, from the first table to the last check, is one transaction: a crash at any point leaves what was
there, nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Integer, MetaData, func, insert, select, text, update

from remediator.archive import Archive, ArchiveError
from remediator.database import MIGRATIONS, newest_schema, upgrade
from remediator.model import AuditEntry
from remediator.schema import audit, facts, metadata, notifications
from remediator.trail import faults
from remediator.transaction import chained

PAGE: Final = 500  # rows
RESTORED: Final = "restored_at"  # the fact that says so, and whether the registry was compared with EC2 since
# What a service that was started on an empty database writes by itself.
NO_STATE: Final = frozenset({"alembic_version", "facts", "prices"})


class RestoreError(Exception):
    """The database stays as it was; says why, and what to do."""


@dataclass
class Restore:
    """What `Database.open` prepares a database with. `now`: Unix seconds.

    `despite_trail`: also where the audit trail in the backup is not as it was written.
    """

    archive: Archive
    now: float
    despite_trail: bool = False
    trail: list[str] = field(default_factory=list)  # its faults

    def __call__(self, connection: Connection) -> None:
        """In one transaction. RestoreError where it cannot be."""
        self._known_schema()
        _unused(connection)
        _emptied(connection)
        upgrade(connection, self.archive.header.schema)
        self._fill(connection)
        upgrade(connection)
        self._check_trail(connection)
        self._mark(connection)
        connection.commit()

    def _known_schema(self) -> None:
        wanted, header = self.archive.header.schema, self.archive.header
        if not list((MIGRATIONS / "versions").glob(f"{wanted}_*.py")):
            raise RestoreError(
                f"its schema is {wanted}, this release knows them to {newest_schema()}; "
                f"restore it with release {header.release} or newer"
            )

    def _fill(self, connection: Connection) -> None:
        tables = MetaData()
        tables.reflect(connection)  # as they were in that schema, not as schema.py has them today
        for batch in self.archive.batches(PAGE):
            table = tables.tables.get(batch.table)
            if table is None or set(batch.columns) != set(table.columns.keys()):
                raise ArchiveError(
                    f"its table {batch.table} is not that of schema {self.archive.header.schema}"
                )
            if batch.rows:
                rows = [dict(zip(batch.columns, row, strict=True)) for row in batch.rows]
                connection.execute(insert(table), rows)
        for name, count in self.archive.counts.items():
            found = connection.execute(select(func.count()).select_from(tables.tables[name])).scalar_one()
            if found != count:
                raise RestoreError(f"{name} has {found} rows after {count} were written")
        if connection.dialect.name == "postgresql":
            _go_on_counting(connection, tables)

    def _check_trail(self, connection: Connection) -> None:
        head = connection.execute(
            select(facts.c.value).where(facts.c.name == "audit_head")
        ).scalar_one_or_none()
        self.trail = faults(_trail(connection), head or "")
        if self.trail and not self.despite_trail:
            raise RestoreError(
                f"the audit trail in it is not as it was written ({'; '.join(self.trail[:3])}); "
                "--despite-trail restores it all the same, and writes that down"
            )

    def _mark(self, connection: Connection) -> None:
        """For the next start, which must look before it acts; and old messages are no news."""
        known = {"takenAt": self.archive.header.taken_at, "trail": self.trail[:10]}
        _set_fact(connection, RESTORED, {**known, "at": self.now, "reconciledAt": None})
        stale = update(notifications).where(notifications.c.sent_at.is_(None))
        connection.execute(stale.values(sent_at=self.now, error="not sent: restored from a backup"))
        newest = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
        before = connection.execute(newest).scalar_one_or_none() or ""
        row: dict[str, Any] = {"at": self.now, "actor": "bot-remediator restore", "event": "state.restored"}
        row |= {"bot": "", "run_id": "", "detail": {**known, "rows": dict(self.archive.counts)}}
        digest = chained(before, row)
        connection.execute(insert(audit).values(hash=digest, **row))
        _set_fact(connection, "audit_head", digest)


def _unused(connection: Connection) -> None:
    """SQLite's file lock has said so. On PostgreSQL a replica shows by its name."""
    if connection.dialect.name != "postgresql":
        return
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remediator'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    count = connection.execute(others).scalar_one()
    if count:
        raise RestoreError(f"a remediator is connected to it ({count} connections); stop every replica first")


def _emptied(connection: Connection) -> None:
    """Without tables, if it was without state; RestoreError if it was not."""
    found = MetaData()
    found.reflect(connection)
    remedy = "restore into an empty database: name a new one, or move this one away"
    foreign = found.tables.keys() - metadata.tables.keys() - NO_STATE
    if foreign:
        raise RestoreError(f"it has tables that are not ours: {', '.join(sorted(foreign))}; {remedy}")
    for table in found.sorted_tables:
        if table.name not in NO_STATE and connection.execute(select(table).limit(1)).first() is not None:
            count = connection.execute(select(func.count()).select_from(table)).scalar_one()
            raise RestoreError(f"it is not empty: {table.name} has {count} rows; {remedy}")
    found.drop_all(connection)


def _go_on_counting(connection: Connection, tables: MetaData) -> None:
    """PostgreSQL counts ids apart from the rows that have them."""
    for table in tables.sorted_tables:
        for column in table.primary_key.columns:
            if isinstance(column.type, Integer):  # of one that is not counted there is no sequence: no effect
                newest = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                connection.execute(select(func.setval(sequence, newest, False)))


def _trail(connection: Connection) -> Iterator[AuditEntry]:
    after = 0
    page = select(audit).order_by(audit.c.id).limit(PAGE)
    while rows := connection.execute(page.where(audit.c.id > after)).all():
        yield from (AuditEntry(**row._mapping) for row in rows)
        after = rows[-1].id


def _set_fact(connection: Connection, name: str, value: object) -> None:
    changed = update(facts).where(facts.c.name == name).values(value=value)
    if connection.execute(changed).rowcount == 0:
        connection.execute(insert(facts).values(name=name, value=value))
