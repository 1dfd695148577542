"""The stand-in for Telegram keeps what it is sent, and refuses what Telegram would refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from sandbox.stack.telegram import CONFLICT, Telegram, run_telegram


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


async def call(telegram: Telegram, method: str, **fields: object) -> tuple[int, Any]:
    url = f"{telegram.url}/bot42:secret/{method}"
    async with aiohttp.ClientSession() as session, session.post(url, json=fields) as response:
        return response.status, (await response.json()).get("result")


async def test_what_people_write_waits_until_the_bot_confirms_it() -> None:
    async with run_telegram() as telegram:
        polled = asyncio.create_task(call(telegram, "getUpdates", timeout=20))
        telegram.write("42:secret", "hello")
        _, updates = await polled
        assert [update["message"]["text"] for update in updates] == ["hello"]
        assert (await call(telegram, "getWebhookInfo"))[1]["pending_update_count"] == 1
        assert await call(telegram, "getUpdates", offset=updates[0]["update_id"] + 1) == (200, [])
        assert (await call(telegram, "getWebhookInfo"))[1]["pending_update_count"] == 0


async def test_a_refused_token_is_refused_everything_until_it_is_not() -> None:
    async with run_telegram() as telegram:
        telegram.refused["42:secret"] = 401
        assert (await call(telegram, "getMe"))[0] == 401
        assert (await call(telegram, "getUpdates", timeout=20))[0] == 401
        del telegram.refused["42:secret"]
        assert (await call(telegram, "getMe"))[1]["id"] == 42


async def test_where_another_polls_only_the_poll_is_refused_and_what_was_written_waits() -> None:
    async with run_telegram() as telegram:
        telegram.refused["42:secret"] = CONFLICT
        telegram.write("42:secret", "hello")
        assert (await call(telegram, "getUpdates"))[0] == 409
        assert (await call(telegram, "getWebhookInfo"))[1]["pending_update_count"] == 1
        del telegram.refused["42:secret"]
        assert len((await call(telegram, "getUpdates"))[1]) == 1
