"""The stand-in for a provider of models answers as Anthropic's API does, and fails as it does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from sandbox.process.waiting import wait_until
from sandbox.stack.model_provider import (
    ERRORS,
    OUTPUT_TOKENS,
    REPLY,
    FaultKind,
    ModelProvider,
    run_model_provider,
)

MODEL = "claude-haiku-4-5"


async def ask(provider: ModelProvider, model: str = MODEL, **more: Any) -> tuple[int, str]:
    body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}], **more}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{provider.url}/v1/messages", json=body) as response,
    ):
        return response.status, await response.text()


async def test_an_answer_is_whole_with_its_tokens() -> None:
    async with run_model_provider() as provider:
        status, text = await ask(provider)
        answer = json.loads(text)
    assert status == 200
    assert (answer["model"], answer["content"][0]["text"]) == (MODEL, REPLY)
    assert answer["usage"]["output_tokens"] == OUTPUT_TOKENS
    assert [(r.model, r.stream, r.fault) for r in provider.requests] == [(MODEL, False, None)]


async def test_a_stream_gives_the_same_answer_piece_by_piece() -> None:
    async with run_model_provider() as provider:
        status, text = await ask(provider, stream=True)
        _, whole = await ask(provider)
    events = [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data")
    ]
    assert status == 200
    assert [event["type"] for event in events][:: len(events) - 1] == ["message_start", "message_stop"]
    assert "".join(event["delta"].get("text", "") for event in events if "delta" in event) == REPLY
    usage = events[0]["message"]["usage"] | events[-2]["usage"]
    assert usage == json.loads(whole)["usage"]


@pytest.mark.parametrize("kind", ERRORS)
async def test_it_fails_as_it_is_told_until_it_is_mended(kind: FaultKind) -> None:
    async with run_model_provider() as provider:
        provider.fail(kind, MODEL)
        status, text = await ask(provider)
        assert (status, json.loads(text)["error"]["type"]) == ERRORS[kind][:2]
        assert (await ask(provider, "claude-opus-5"))[0] == 200
        provider.mend()
        assert (await ask(provider))[0] == 200
        assert (provider.served(), provider.served(MODEL)) == (2, 1)


async def test_one_that_hangs_answers_once_it_is_mended() -> None:
    async with run_model_provider() as provider:
        provider.fail("hang")

        async def taken() -> bool:
            return bool(provider.requests)

        asked = asyncio.create_task(ask(provider))
        await wait_until(taken, what="it took the request", every=0.01)
        done, _ = await asyncio.wait([asked], timeout=0.2)
        assert not done
        provider.mend()
        assert (await asked)[0] == 200
