from collections.abc import AsyncIterator

import pytest

from tests.remediator.recovery.episodes import Chat, run_chat


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with run_chat() as chat:
        yield chat
