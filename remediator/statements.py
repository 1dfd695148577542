"""How a statement is executed in a transaction, and how its rows become values."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, CursorResult, Executable, Select

from remediator.database import Connection

AT_ONCE: Final = 500  # values in one statement; SQLite takes 32,766, and a statement is built anew for each

T = TypeVar("T")


class Statements:
    """`now`: the one reading of the clock for all that is written here. `alone`: no other process can be at
    work on the database.
    """

    def __init__(
        self, connection: Connection, now: float, replica: str, lease_seconds: float, alone: bool
    ) -> None:
        self._connection = connection
        self.now = now
        self._replica, self._lease_seconds, self._alone = replica, lease_seconds, alone

    async def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        return await self._connection.execute(statement, values)

    async def one(self, kind: Callable[..., T], statement: Executable) -> T | None:
        row = (await self.execute(statement)).first()
        return None if row is None else kind(**row._mapping)

    async def all(self, kind: Callable[..., T], statement: Executable) -> list[T]:
        rows = await self.execute(statement)
        names = tuple(rows.keys())
        return [kind(**dict(zip(names, row, strict=True))) for row in rows]

    async def among(
        self,
        kind: Callable[..., T],
        statement: Select[Any],
        column: ColumnElement[Any],
        values: Collection[Any],
    ) -> list[T]:
        """The rows whose column has one of these values, however many there are."""
        found: list[T] = []
        for some in _some(values):
            found += await self.all(kind, statement.where(column.in_(some)))
        return found


def _some(values: Collection[Any]) -> Iterator[list[Any]]:
    asked = sorted(values)
    return (asked[start : start + AT_ONCE] for start in range(0, len(asked), AT_ONCE))
