"""How a statement is executed in a transaction, and how its rows become values."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, CursorResult, Executable, Select
from sqlalchemy.exc import SQLAlchemyError

from remediator.errors import first_line
from remediator.store.database import Connection
from remediator.store.errors import UnstorableError, from_sqlalchemy
from remediator.store.lease import Replica

AT_ONCE: Final = 500  # values in one statement; SQLite takes 32,766, and a statement is built anew for each

T = TypeVar("T")


class Statements:
    """The base of the mixins that make up a transaction. `now` and the methods are as in `Transaction`."""

    def __init__(self, connection: Connection, now: float, replica: Replica) -> None:
        self._connection, self.now, self._replica = connection, now, replica

    async def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        try:
            return await self._connection.execute(statement, values)
        except SQLAlchemyError as error:
            raise from_sqlalchemy(error) from error
        except (OverflowError, UnicodeEncodeError) as error:  # SQLite's driver raises what Python does
            raise UnstorableError(first_line(error)) from error

    async def one(self, kind: Callable[..., T], statement: Executable) -> T | None:
        row = (await self.execute(statement)).first()
        return None if row is None else kind(**row._mapping)

    async def all(self, kind: Callable[..., T], statement: Executable) -> list[T]:
        rows = await self.execute(statement)
        names = tuple(rows.keys())
        return [kind(**dict(zip(names, row, strict=True))) for row in rows]

    async def where_in(
        self,
        kind: Callable[..., T],
        statement: Select[Any],
        column: ColumnElement[Any],
        values: Collection[Any],
    ) -> list[T]:
        rows: list[T] = []
        for chunk in _chunks(values):
            rows += await self.all(kind, statement.where(column.in_(chunk)))
        return rows


def _chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    ordered = sorted(values)
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))
