"""How many statements a piece of code takes, on any database."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.engine import Engine


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Gather every statement that any engine executes in the block, `BEGIN` included."""
    statements: list[str] = []

    def gather(_1: object, _2: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", gather)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", gather)
