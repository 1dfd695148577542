"""Telegram is asked how many updates wait; what it says is told, and the token never."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from remediator.recovery.channels import ask_telegram
from remediator.recovery.queues import QueueAnswer
from sandbox.stack.listening import listening
from sandbox.stack.telegram import Telegram

TOKEN = SecretStr("42:planted-AAF")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_it_says_how_many_wait_and_whether_the_token_is_valid(
    session: aiohttp.ClientSession, telegram: Telegram, looks: list[str]
) -> None:
    assert await ask_telegram(session, telegram.url, TOKEN) == QueueAnswer(0)
    for _ in range(7):
        telegram.write("42:planted-AAF", "hello")
    assert await ask_telegram(session, f"{telegram.url}/", TOKEN) == QueueAnswer(7)
    telegram.refused["42:planted-AAF"] = 401
    assert await ask_telegram(session, telegram.url, TOKEN) == QueueAnswer(refused=True)
    assert looks == ["42:planted-AAF"] * 2


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (404, '{"ok":false,"error_code":404}', QueueAnswer(refused=True)),
        (404, "<html>no such page</html>", QueueAnswer(problem="Telegram answered 404")),
        (401, '{"message":"a proxy that wants a password"}', QueueAnswer(problem="Telegram answered 401")),
        (429, '{"ok":false,"error_code":429}', QueueAnswer(problem="Telegram answered 429")),
        (302, "", QueueAnswer(problem="Telegram answered 302")),
        (200, '{"ok":true,"result":{"pending_update_count":true}}', None),
        (200, '{"ok":true,"result":[]}', None),
        (200, "[]", None),
        (200, "not JSON", None),
    ],
)
async def test_no_other_answer_says_anything(
    session: aiohttp.ClientSession, status: int, body: str, answer: QueueAnswer | None
) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"Location": "http://127.0.0.1:1/"})

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        unusable = QueueAnswer(problem="Telegram answered something else than WebhookInfo")
        assert await ask_telegram(session, url, TOKEN) == (answer or unusable)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("url", ["http://[", "ftp://x", "http://127.0.0.1:1"])
async def test_where_it_cannot_be_asked_the_reason_quotes_no_url(
    session: aiohttp.ClientSession, url: str
) -> None:
    answer = await ask_telegram(session, url, TOKEN)
    assert (answer.pending, answer.refused) == (None, False)
    assert answer.problem.startswith("Telegram could not be reached: ")
    assert "planted" not in answer.problem


async def test_an_answer_that_comes_in_pieces_is_read_whole(session: aiohttp.ClientSession) -> None:
    """The network cuts where it likes: what is there first is not the answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in (b'{"ok": true, "resu', b'lt": {"pending_upd', b'ate_count": 7}}'):
            await response.write(piece)
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with listening(app) as url:
        assert await ask_telegram(session, url, TOKEN) == QueueAnswer(7)
