"""New databases on SQLite and PostgreSQL."""

from pathlib import Path

import pytest

from tests.chaos.postgres import Postgres
from tests.remediator.backup.databases import NewDatabase


@pytest.fixture
def sqlite(tmp_path: Path) -> NewDatabase:
    numbers = iter(range(100))

    async def new() -> str:
        return f"sqlite:///{tmp_path}/d{next(numbers)}.db"

    return new


@pytest.fixture
def postgresql(postgres: Postgres) -> NewDatabase:
    async def new() -> str:
        return postgres.url(await postgres.new_database())

    return new


@pytest.fixture(params=["sqlite", "postgresql"])
def another_database(request: pytest.FixtureRequest) -> NewDatabase:
    made: NewDatabase = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    made: NewDatabase = request.getfixturevalue(request.param)
    return made
