"""A backup's state into an empty database.

Everything, from the first table to the last check, is one transaction: a crash at any point leaves the
database as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Integer, MetaData, func, insert, select, text, update

from remediator.backup.archive import Archive, ArchiveError
from remediator.model import AuditEntry
from remediator.store.audit import chained, row_of, verify_chain
from remediator.store.database import MIGRATIONS, newest_schema, upgrade
from remediator.store.schema import audit, facts, metadata, notifications

PAGE: Final = 500  # rows
RESTORED: Final = "restored_at"  # the fact that says so, and whether EC2 was compared with it since
# The tables that a service which was started on an empty database fills by itself.
NO_STATE: Final = frozenset({"alembic_version", "facts", "prices"})


class RestoreError(Exception):
    """The database stays as it was; the message says why, and what to do."""


@dataclass
class Restore:
    """Restores an archive: what `Database.open` prepares a database with. `now`: Unix seconds.

    `ignore_audit_faults`: restore it also where the audit trail in it is not as it was written.
    """

    archive: Archive
    now: float
    ignore_audit_faults: bool = False
    audit_faults: list[str] = field(default_factory=list)

    def __call__(self, connection: Connection) -> None:
        """Restore it in one transaction. Raise RestoreError where it cannot be."""
        self._check_schema()
        _check_unused(connection)
        _drop_empty_tables(connection)
        upgrade(connection, self.archive.header.schema)
        self._fill(connection)
        upgrade(connection)
        self._check_audit(connection)
        self._mark(connection)
        connection.commit()

    def _check_schema(self) -> None:
        header = self.archive.header
        if not list((MIGRATIONS / "versions").glob(f"{header.schema}_*.py")):
            raise RestoreError(
                f"its schema is {header.schema}, this release knows them to {newest_schema()}; "
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
            stored = connection.execute(select(func.count()).select_from(tables.tables[name])).scalar_one()
            if stored != count:
                raise RestoreError(f"{name} has {stored} rows after {count} were written")
        if connection.dialect.name == "postgresql":
            _set_sequences(connection, tables)

    def _check_audit(self, connection: Connection) -> None:
        head = connection.execute(
            select(facts.c.value).where(facts.c.name == "audit_head")
        ).scalar_one_or_none()
        self.audit_faults = verify_chain(_entries(connection), head or "")
        if self.audit_faults and not self.ignore_audit_faults:
            raise RestoreError(
                f"the audit trail in it is not as it was written ({'; '.join(self.audit_faults[:3])}); "
                "--despite-trail restores it all the same, and writes that down"
            )

    def _mark(self, connection: Connection) -> None:
        """Have the next start compare with EC2 before it acts, and no old message sent."""
        origin = {"takenAt": self.archive.header.taken_at, "trail": self.audit_faults[:10]}
        _set_fact(connection, RESTORED, {**origin, "at": self.now, "reconciledAt": None})
        stale = update(notifications).where(notifications.c.sent_at.is_(None))
        connection.execute(stale.values(sent_at=self.now, error="not sent: restored from a backup"))
        newest = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
        previous = connection.execute(newest).scalar_one_or_none() or ""
        detail = {**origin, "rows": dict(self.archive.counts)}
        row = row_of("state.restored", "", "", "bot-remediator restore", detail, self.now)
        digest = chained(previous, row)
        connection.execute(insert(audit).values(hash=digest, **row))
        _set_fact(connection, "audit_head", digest)


def _check_unused(connection: Connection) -> None:
    """Raise RestoreError where a replica is connected. Of SQLite the file lock has shown that none is."""
    if connection.dialect.name != "postgresql":
        return
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remediator'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    count = connection.execute(others).scalar_one()
    if count:
        raise RestoreError(f"a remediator is connected to it ({count} connections); stop every replica first")


def _drop_empty_tables(connection: Connection) -> None:
    """Drop the tables. Raise RestoreError where there is state in them."""
    present = MetaData()
    present.reflect(connection)
    remedy = "restore into an empty database: name a new one, or move this one away"
    foreign = present.tables.keys() - metadata.tables.keys() - NO_STATE
    if foreign:
        raise RestoreError(f"it has tables that are not ours: {', '.join(sorted(foreign))}; {remedy}")
    for table in present.sorted_tables:
        if table.name not in NO_STATE and connection.execute(select(table).limit(1)).first() is not None:
            count = connection.execute(select(func.count()).select_from(table)).scalar_one()
            raise RestoreError(f"it is not empty: {table.name} has {count} rows; {remedy}")
    present.drop_all(connection)


def _set_sequences(connection: Connection, tables: MetaData) -> None:
    """Have PostgreSQL, which counts ids apart from the rows that have them, go on after the newest."""
    for table in tables.sorted_tables:
        for column in table.primary_key.columns:
            if isinstance(column.type, Integer):  # of one that is not counted there is no sequence: no effect
                newest = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                connection.execute(select(func.setval(sequence, newest, False)))


def _entries(connection: Connection) -> Iterator[AuditEntry]:
    after = 0
    page = select(audit).order_by(audit.c.id).limit(PAGE)
    while rows := connection.execute(page.where(audit.c.id > after)).all():
        yield from (AuditEntry(**row._mapping) for row in rows)
        after = rows[-1].id


def _set_fact(connection: Connection, name: str, value: object) -> None:
    changed = update(facts).where(facts.c.name == name).values(value=value)
    if connection.execute(changed).rowcount == 0:
        connection.execute(insert(facts).values(name=name, value=value))
