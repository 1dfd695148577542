"""The tables of the store as plain values, and how a transaction writes to a copy of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, CursorResult, Executable, Select

from remediator.model import (
    Approval,
    AuditEntry,
    Bot,
    ConfigVersion,
    Episode,
    Hold,
    Notification,
    Run,
    Step,
    StoredAlert,
    StoredVerdict,
)
from remediator.store.errors import ConflictError
from remediator.store.lease import Replica

EMPTY: Final = frozenset({"budgets"})  # tables that are asked for rows, and in no world have any

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tables:
    """Never changed in place: a transaction copies what it writes to, and a commit puts the copies here."""

    bots: Mapping[str, Bot] = field(default_factory=dict)
    versions: Mapping[str, tuple[ConfigVersion, ...]] = field(default_factory=dict)  # oldest first
    runs: Mapping[str, Run] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)  # bot → its unfinished run
    alerts: Mapping[Episode, StoredAlert] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Step]] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[StoredVerdict, ...]] = field(default_factory=dict)
    holds: Mapping[int, Hold] = field(default_factory=dict)
    approvals: Mapping[tuple[str, str], Approval] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notifications: Mapping[int, Notification] = field(default_factory=dict)
    scaled: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


class MemoryRows:
    """What a transaction reads and writes: copies of the tables, and a trail that grows.

    `tables` is what this transaction sees, its own writes among it; `entries` what it adds to the trail.
    """

    def __init__(self, tables: Tables, trail: Sequence[AuditEntry], now: float, replica: Replica) -> None:
        self.tables, self.before = tables, tables
        self.now, self.replica = now, replica
        self._trail, self.entries = trail, list[AuditEntry]()

    def _set(self, table: str, rows: Any) -> None:
        self.tables = replace(self.tables, **{table: rows})

    def _put(self, table: str, key: object, row: object) -> None:
        rows: dict[object, object] = getattr(self.tables, table)
        if rows is getattr(self.before, table):
            rows = dict(rows)
            self._set(table, rows)
        rows[key] = row

    def _drop(self, table: str, key: object) -> bool:
        rows = dict(getattr(self.tables, table))
        row = rows.pop(key, None)
        self._set(table, rows)
        return row is not None

    def _add(self, table: str, key: object, row: object) -> None:
        if key in getattr(self.tables, table):
            raise ConflictError(f"{key!r} is in {table} already")
        self._put(table, key, row)

    # statements

    async def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        raise _not_simulated(statement)

    async def one(self, kind: Callable[..., T], statement: Executable) -> T | None:
        raise _not_simulated(statement)

    async def all(self, kind: Callable[..., T], statement: Executable) -> list[T]:
        if _table_of(statement) not in EMPTY:
            raise _not_simulated(statement)
        return []

    async def where_in(
        self,
        kind: Callable[..., T],
        statement: Select[Any],
        column: ColumnElement[Any],
        values: Collection[Any],
    ) -> list[T]:
        raise _not_simulated(statement)


def _not_simulated(statement: Executable) -> NotImplementedError:
    return NotImplementedError(f"{_table_of(statement)} are not simulated")


def _table_of(statement: Any) -> str:
    froms = statement.get_final_froms() if isinstance(statement, Select) else [statement.table]
    return ", ".join(str(table) for table in froms)
