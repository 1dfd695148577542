"""Bots that fall ill, runs at their gates, and a chat: what the tests of recoveries share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import Api, World, firing

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
CHAT = "-100200"
APPROVE: dict[str, Any] = {"modes": ["restart=approve"], "gate_interval": 60}


@asynccontextmanager
async def serving(routes: Mapping[str, Callable[[web.Request], Any]]) -> AsyncIterator[str]:
    """Serve these paths on loopback, each answered with what its function returns, as JSON; yield the URL."""
    app = web.Application()
    for path, answer in routes.items():

        async def handle(request: web.Request, answer: Callable[[web.Request], Any] = answer) -> web.Response:
            body = answer(request)
            return web.json_response(await body if asyncio.iscoroutine(body) else body)

        app.router.add_route("*", path, handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Chat:
    """Telegram with a person in it: the messages they get, and what they write."""

    url: str = ""
    messages: list[str] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    polls: int = 0  # how often updates were asked for

    def write(self, text: str, chat: str = CHAT) -> None:
        """Write to the bot as a person in that chat."""
        message = {"text": text, "chat": {"id": int(chat)}, "from": {"id": 7, "username": "ann"}}
        self.updates.append({"update_id": 1000 + len(self.updates), "message": message})

    async def until_message(self, part: str) -> str:
        """Wait for a message with that in it, and return it."""

        async def matching() -> str:
            return next((text for text in self.messages if part in text), "")

        return await wait_until(matching, what=f"a message with {part!r}; so far: {self.messages}")

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings of a remediator that talks to it."""
        return {"telegram_api_url": self.url, "telegram_token": "7:word", "telegram_chat_id": CHAT}

    async def _send(self, request: web.Request) -> Any:
        self.messages.append((await request.json())["text"])
        return {"ok": True, "result": {}}

    def _updates(self, request: web.Request) -> Any:
        self.polls += 1
        offset = int(request.query["offset"])
        return {"ok": True, "result": [update for update in self.updates if update["update_id"] >= offset]}


@asynccontextmanager
async def run_chat() -> AsyncIterator[Chat]:
    """Serve Telegram's Bot API on loopback; yield the chat."""
    chat = Chat()
    routes = {"/bot{token}/sendMessage": chat._send, "/bot{token}/getUpdates": chat._updates}
    async with serving(routes) as chat.url:
        yield chat


async def ill(app: Api, world: World, *, cured_by: Any = "restart") -> tuple[str, dict[str, Any]]:
    """Deploy a bot and let it fall ill; return its name and its alert."""
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.fault(bot, "error", cured_by=cured_by)
    return bot, firing(bot)


async def blocked(app: Api, run_id: str, gate: str) -> Any:
    """Wait until that gate holds the run, and return the run."""

    async def at_the_gate() -> Any:
        run = await app.get(f"/recover/{run_id}")
        return run if run["status"] == "blocked" and run["reason"].startswith(f"{gate}: ") else None

    return await wait_until(at_the_gate, what=f"{run_id} held by {gate}")


async def ended(app: Api, run_id: str) -> tuple[str, str]:
    """Wait for the end of the run; return its status and its reason."""
    run = await app.until_ended(f"/recover/{run_id}")
    return run["status"], run["reason"]
