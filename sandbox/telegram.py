"""A stand-in for Telegram's Bot API: it keeps what it is sent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Message:
    at: float  # unix seconds
    token: str  # of the bot that sent it
    chat_id: str
    text: str


@dataclass(slots=True)
class Telegram:
    """Where the catcher listens, and every message so far, oldest first."""

    url: str
    messages: list[Message] = field(default_factory=list)


@asynccontextmanager
async def run_telegram() -> AsyncIterator[Telegram]:
    """A catcher on a free port, in this process."""
    telegram = Telegram("")

    async def send_message(request: web.Request) -> web.Response:
        is_json = request.content_type == "application/json"
        fields = await request.json() if is_json else dict(await request.post())
        chat_id, text = str(fields.get("chat_id", "")), str(fields.get("text", ""))
        if not chat_id.lstrip("-").isdigit() or not text:
            problem = "Bad Request: chat_id, a number, and text are needed"
            return web.json_response({"ok": False, "error_code": 400, "description": problem}, status=400)
        telegram.messages.append(Message(time.time(), request.match_info["token"], chat_id, text))
        chat = {"id": int(chat_id), "type": "group"}  # a number: Alertmanager's client takes nothing else
        result = {"message_id": len(telegram.messages), "date": int(time.time()), "chat": chat, "text": text}
        return web.json_response({"ok": True, "result": result})

    async def get_me(request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "result": {"id": 1, "is_bot": True, "username": "sandbox_bot"}})

    async def get_updates(_: web.Request) -> web.Response:
        return web.json_response({"ok": True, "result": []})

    app = web.Application()
    for method, handler in (("sendMessage", send_message), ("getMe", get_me), ("getUpdates", get_updates)):
        app.router.add_route("*", f"/bot{{token}}/{method}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        telegram.url = f"http://{host}:{port}"
        yield telegram
    finally:
        await runner.cleanup()
