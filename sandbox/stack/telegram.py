"""A stand-in for Telegram's Bot API, which keeps the messages of bots, and hands them those of people."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from sandbox.stack.listening import listening

POLL_SECONDS: Final = 20.0  # at most, of getUpdates: then a stopped server is soon free
PERSON: Final = 77  # the id of who writes to bots
CONFLICT: Final = 409

Answer = tuple[int, Any]  # the status, and the result or what is wrong


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a bot sent."""

    at: float  # unix seconds
    token: str  # of the bot that sent it
    chat_id: str
    text: str


@dataclass(slots=True)
class Telegram:
    """The URL of the stand-in, and every message so far, oldest first.

    By a bot's token: `pending`, the updates that it has not confirmed, and `refused`, a status: 401 for
    everything, as for a token that was revoked, 409 for `getUpdates`, as where another polls.
    """

    url: str
    messages: list[Message] = field(default_factory=list)
    pending: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, int] = field(default_factory=dict)
    _updates: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, token: str, text: str, person: int = PERSON) -> None:
        """Write to a bot, as a person in a chat of their own."""
        self._updates += 1
        sender = {"id": person, "is_bot": False, "first_name": "Ada", "language_code": "en"}
        chat = {"id": person, "type": "private", "first_name": "Ada"}
        message = {"message_id": self._updates, "date": int(time.time()), "text": text}
        update = {"update_id": self._updates, "message": {**message, "from": sender, "chat": chat}}
        self.pending[token].append(update)
        self._news.set()

    async def fetch(self, token: str, offset: int, timeout: float) -> list[dict[str, Any]]:
        """Return what a bot has not confirmed by `offset`, once there is something or the time is over."""
        deadline = time.monotonic() + min(timeout, POLL_SECONDS)
        while True:
            left = [update for update in self.pending[token] if update["update_id"] >= offset]
            self.pending[token] = left
            if left or token in self.refused or (rest := deadline - time.monotonic()) <= 0:
                return left
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, 0.5)):
                    await self._news.wait()


def _send(telegram: Telegram, token: str, fields: dict[str, Any]) -> Answer:
    chat_id, text = str(fields.get("chat_id", "")), str(fields.get("text", ""))
    if not chat_id.lstrip("-").isdigit() or not text:
        return 400, "Bad Request: chat_id, a number, and text are needed"
    telegram.messages.append(Message(time.time(), token, chat_id, text))
    chat = {"id": int(chat_id), "type": "group"}  # a number: Alertmanager's client takes nothing else
    return 200, {"message_id": len(telegram.messages), "date": int(time.time()), "chat": chat, "text": text}


def _me(_: Telegram, token: str, __: dict[str, Any]) -> Answer:
    number = token.partition(":")[0]
    bot_id = int(number) if number.isdigit() else 1
    return 200, {"id": bot_id, "is_bot": True, "first_name": "Bot", "username": "sandbox_bot"}


def _webhook(telegram: Telegram, token: str, _: dict[str, Any]) -> Answer:
    queue = len(telegram.pending[token])
    return 200, {"url": "", "has_custom_certificate": False, "pending_update_count": queue}


METHODS: Final[dict[str, Callable[[Telegram, str, dict[str, Any]], Answer]]] = {
    "sendmessage": _send,
    "getme": _me,
    "getwebhookinfo": _webhook,
}


@asynccontextmanager
async def run_telegram() -> AsyncIterator[Telegram]:
    """Run the stand-in on a free port, in this process. What it does not know, it says has been done."""
    telegram = Telegram("")

    async def call(request: web.Request) -> web.Response:
        token, method = request.match_info["token"], request.match_info["method"].lower()
        is_json = request.content_type == "application/json" and request.can_read_body
        posted = await request.json() if is_json else await request.post()
        fields: dict[str, Any] = {**request.query, **posted}
        refusal = telegram.refused.get(token)
        if refusal is not None and (refusal != CONFLICT or method == "getupdates"):
            status: int = refusal
            result: Any = "Unauthorized" if status == 401 else "Conflict: another getUpdates request"
        elif method == "getupdates":
            offset, timeout = int(fields.get("offset") or 0), float(fields.get("timeout") or 0)
            status, result = 200, await telegram.fetch(token, offset, timeout)
        else:
            known = METHODS.get(method)
            status, result = known(telegram, token, fields) if known else (200, True)
        if status != 200:
            wrong = {"ok": False, "error_code": status, "description": result}
            return web.json_response(wrong, status=status)
        return web.json_response({"ok": True, "result": result})

    app = web.Application()
    app.router.add_route("*", "/bot{token}/{method}", call)
    async with listening(app) as telegram.url:
        yield telegram
