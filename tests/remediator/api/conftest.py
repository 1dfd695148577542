"""An app alone, for the tests of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.remediator.conftest import Api, serve, settings_for


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Api]:
    """Serve an app without bots or AWS."""
    async with serve(settings_for(tmp_path / "remediator.db")) as api:
        yield api
