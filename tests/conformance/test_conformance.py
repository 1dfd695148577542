"""One set of questions for the sandbox's bot and for the real one, so that ours is what production has.

In the order of the file: the last ones leave the bot deaf, mute or standing by. Where it is asked through the
exporter's probe, that is what the exporter and the remediator see of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from exporter.probing.probe import ProbeResult, open_session, probe
from exporter.result import FAILURE_KINDS
from sandbox.process.openclaw import EARLIER
from sandbox.process.waiting import wait_until
from tests.conformance.conftest import Bot

pytestmark = [pytest.mark.timeout(1200), pytest.mark.asyncio(loop_scope="module")]
PATIENCE = 800.0  # seconds, for a real one on a machine that others use; ours takes none of it
NUMBER = (int, float)
SHAPE: dict[str, type | tuple[type, ...]] = {
    "ok": bool,
    "version": str,
    "config_sha": str,
    "boot_id": str,
    "started_at": str,
    "model": str,
    "memory_bytes": int,
    "turn_age_seconds": NUMBER,
    "usage": dict,
    "eventLoop": dict,
    "channels": list,
    "peers": list,
}
COUNTS = {"requests", "failed", "input_tokens", "output_tokens"}


async def ask(bot: Bot, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Return status, content type and body of an answer."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, bot.url + path) as response,
    ):
        return response.status, response.content_type, await response.text()


async def look(bot: Bot) -> ProbeResult:
    async with open_session() as session:
        return await probe(session, bot.target, timeout=60)


async def until(bot: Bot, holds: Callable[[dict[str, Any]], object], what: str) -> ProbeResult:
    """Return the first probe of which it holds, given what /mesh tells."""

    async def condition() -> ProbeResult | None:
        result = await look(bot)
        return result if result.mesh.payload and holds(dict(result.mesh.payload)) else None

    return await wait_until(condition, PATIENCE, what, every=0.25)


async def test_health_says_that_it_lives_and_nothing_else(bot: Bot) -> None:
    for path in ("/health", "/health?x=1"):
        assert await ask(bot, path) == (200, "application/json", '{"ok":true,"status":"live"}')


async def test_head_is_get_without_a_body_and_another_method_is_not_allowed(bot: Bot) -> None:
    assert await ask(bot, "/health", "HEAD") == (200, "application/json", "")
    status, content_type, _ = await ask(bot, "/health", "POST")
    assert (status, content_type) == (405, "text/plain")
    assert await ask(bot, "/mesh", "HEAD") == (200, "application/json", "")


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics", "/healthz/x"])
async def test_an_unknown_path_is_not_found_and_no_web_page(bot: Bot, path: str) -> None:
    assert await ask(bot, path) == (404, "text/plain", "Not Found")


async def test_mesh_tells_everything_in_the_shape_that_is_documented(bot: Bot) -> None:
    result = await look(bot)
    told = result.mesh.payload
    assert told is not None, result
    assert {
        field: told.get(field) for field, kind in SHAPE.items() if not isinstance(told.get(field), kind)
    } == {}
    assert told.keys() <= {*SHAPE, "context_usage"}
    usage: Any = told["usage"]
    assert usage.keys() == {*COUNTS, "failed_by", "models"}
    assert all(counts.keys() == COUNTS for counts in usage["models"].values())
    assert told["channels"] == [{"name": "telegram", "up": True}]
    assert told["peers"] == told["channels"]


async def test_the_exporter_finds_every_fact(bot: Bot) -> None:
    """All but the context, which a bot has after its first turn."""
    result = await look(bot)
    assert result.health.ok
    assert result.mesh.ok
    facts = result.facts
    assert [
        field for field, value in facts._asdict().items() if value is None and field != "context_usage"
    ] == []
    assert (facts.version, facts.config_sha) == (bot.version, bot.config_sha)
    assert facts.channels == (("telegram", True),)
    assert facts.memory_bytes is not None
    assert facts.memory_bytes > 1e6
    assert facts.turn_age_seconds == 0
    assert facts.failed_by == (0,) * len(FAILURE_KINDS)
    assert result.event_loop_ratio is not None
    assert result.peers_up_ratio == 1


async def test_a_connection_is_kept_until_it_is_idle_for_seconds_or_told_to_close(bot: Bot) -> None:
    url = urlsplit(bot.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        for _ in range(2):
            writer.write(b"GET /health HTTP/1.1\r\nHost: bot\r\n\r\n")
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b'live"}')
        async with asyncio.timeout(60):
            assert await reader.read() == b"", "after five seconds, by the bot"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(b"GET /mesh HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        assert b"connection: close" in (await reader.read()).lower()
    writer.close()


async def test_a_restart_changes_started_at_and_not_boot_id(bot: Bot) -> None:
    before = (await look(bot)).facts
    await bot.restart(False)
    after = (await look(bot)).facts
    assert after.boot_id == before.boot_id
    assert str(after.started_at) > str(before.started_at)
    assert (after.version, after.config_sha) == (before.version, before.config_sha)


async def test_a_turn_is_counted_with_its_tokens_and_fills_the_context(bot: Bot) -> None:
    before = (await look(bot)).facts
    assert before.requests is not None
    await bot.speak()

    def counted(told: dict[str, Any]) -> bool:
        usage = told["usage"]
        new = usage["requests"] > before.requests and "context_usage" in told  # of an older look, for seconds
        return new and (usage["input_tokens"], usage["output_tokens"]) == tuple(
            usage["requests"] * tokens for tokens in bot.tokens
        )

    result = await until(bot, counted, "a turn that is counted with its tokens")
    assert result.facts.failures == before.failures == {}
    assert result.facts.context_usage is not None
    assert 0 <= result.facts.context_usage < 1
    told: Any = result.mesh.payload
    (model,) = told["usage"]["models"]
    assert model == told["model"]


async def test_a_turn_in_the_air_has_an_age_until_it_ends(bot: Bot) -> None:
    await bot.hold()
    young: Any = (await until(bot, lambda told: told["turn_age_seconds"] > 0, "a turn in the air")).facts
    older: Any = (
        await until(bot, lambda told: told["turn_age_seconds"] > young.turn_age_seconds, "it grows older")
    ).facts
    assert older.requests == young.requests, "it has not ended"
    await bot.release()
    after = await until(
        bot,
        lambda told: told["turn_age_seconds"] == 0 and told["usage"]["requests"] > older.requests,
        "it ended well",
    )
    assert after.facts.failures == older.failures


async def test_a_bot_whose_model_is_gone_is_live_and_counts_failures_of_that_kind(bot: Bot) -> None:
    await bot.silence()
    result = await until(bot, lambda told: told["usage"]["failed"], "a call that failed")
    assert result.health.ok
    assert result.mesh.payload is not None
    assert result.mesh.payload["ok"] is True
    usage: Any = result.mesh.payload["usage"]
    assert usage["failed_by"] == {"model_not_found": usage["failed"]}
    (model,) = usage["models"].values()
    assert model["failed"] == usage["failed"]


async def test_a_bot_without_the_key_of_its_model_is_live_and_counts_turns_that_fail(bot: Bot) -> None:
    await bot.rob()
    result = await until(bot, lambda told: told["usage"]["failed_by"].get("auth"), "a turn that failed")
    assert result.health.ok
    told: Any = result.mesh.payload
    assert told["ok"] is True
    assert told["usage"]["models"][told["model"]]["failed"] == told["usage"]["failed"]


async def test_a_bot_whose_channel_is_down_is_live_and_says_so(bot: Bot) -> None:
    if bot.version == EARLIER.version and "OPENCLAW" not in os.environ:
        pytest.skip("this one tries its channel for many minutes before it says so; OPENCLAW=1 waits")
    await bot.deafen()
    result = await until(bot, lambda told: not told["channels"][0]["up"], "a channel that is down")
    assert result.health.ok
    assert result.mesh.ok, "it is the channel that fails"
    assert result.facts.channels == (("telegram", False),)
    assert result.peers_up_ratio == 0


async def test_a_bot_that_stands_by_has_no_channels(bot: Bot) -> None:
    await bot.restart(True)
    result = await until(bot, lambda told: told["ok"], "a bot that stands by")
    assert result.health.ok
    assert result.facts.channels == ()
    assert result.peers_up_ratio is None
