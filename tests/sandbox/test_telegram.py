"""The stand-in for Telegram keeps what it is sent, and refuses what Telegram would refuse."""

from __future__ import annotations

import aiohttp
import pytest

from sandbox.telegram import Telegram, run_telegram


async def send(telegram: Telegram, **options: object) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{telegram.url}/bot1:secret/sendMessage", **options) as response,  # type: ignore[arg-type]
    ):
        return response.status


@pytest.mark.parametrize("encoding", ["json", "data"])
async def test_a_message_is_kept_with_who_sent_it(encoding: str) -> None:
    async with run_telegram() as telegram:
        assert await send(telegram, **{encoding: {"chat_id": "-1001", "text": "hello"}}) == 200
        (message,) = telegram.messages
        assert (message.token, message.chat_id, message.text) == ("1:secret", "-1001", "hello")


@pytest.mark.parametrize(
    "fields", [{}, {"chat_id": "7"}, {"text": "hello"}, {"chat_id": "x", "text": "hello"}]
)
async def test_a_message_without_chat_or_text_is_refused(fields: dict[str, str]) -> None:
    async with run_telegram() as telegram:
        assert await send(telegram, json=fields) == 400
        assert telegram.messages == []
