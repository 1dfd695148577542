"""Death at a statement of a database, within this process."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event


class Crash(BaseException):
    """As SIGKILL: nothing of ours runs after it but what the database does by itself."""


@contextmanager
def crash_at(number: int, *, when: str = "before_cursor_execute") -> Iterator[list[int]]:
    """Die at that statement; counts them."""
    statements_run = [0]

    def count(*_: object) -> None:
        statements_run[0] += 1
        if statements_run[0] == number:
            raise Crash

    event.listen(Engine, when, count)
    try:
        yield statements_run
    finally:
        event.remove(Engine, when, count)
