"""Messages to people, by Telegram. What is to be said is on disk first and is said until it was heard."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import structlog
from pydantic import SecretStr

from remediator.metrics import Metrics
from remediator.model import Notification
from remediator.rounds import until_woken
from remediator.store import Store

log = structlog.get_logger()

LONGEST: Final = 4096  # characters of a Telegram message (Bot API: sendMessage)
PATIENCE: Final = aiohttp.ClientTimeout(total=15)
LOOK_EVERY: Final = 2.0  # seconds between two looks for what other runs and replicas left
TURN: Final = 60.0  # seconds for which one replica alone sends
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
GIVE_UP_AFTER: Final = 20  # refusals, about a quarter of an hour; the message stays in the audit trail


@dataclass(frozen=True, slots=True)
class Answer:
    """`error` is empty when the message was sent; `refused` where the same message would be again."""

    error: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Telegram:
    api_url: str
    token: SecretStr
    chat_id: str

    async def send(self, session: aiohttp.ClientSession, text: str) -> Answer:
        """`error` is without the URL: the token is a part of it."""
        url = f"{self.api_url.rstrip('/')}/bot{self.token.get_secret_value()}/sendMessage"
        message = {"chat_id": self.chat_id, "text": text[:LONGEST]}
        try:
            async with session.post(url, json=message, timeout=PATIENCE) as response:
                if response.status == 200:
                    return Answer()
                busy = response.status >= 500 or response.status == 429
                return Answer(f"Telegram answered {response.status}", refused=not busy)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(f"Telegram could not be reached: {type(error).__name__}")

    async def updates(
        self, session: aiohttp.ClientSession, offset: int, seconds: int
    ) -> list[dict[str, Any]] | None:
        """What was written to us since `offset`, waiting up to `seconds` for it; None: it cannot be had."""
        url = f"{self.api_url.rstrip('/')}/bot{self.token.get_secret_value()}/getUpdates"
        query = {"offset": str(offset), "timeout": str(seconds), "allowed_updates": '["message"]'}
        try:
            patience = aiohttp.ClientTimeout(total=seconds + 10)
            async with session.get(url, params=query, timeout=patience) as response:
                if response.status != 200:
                    log.warning("answers cannot be read", status=response.status)
                    return None
                found: list[dict[str, Any]] = (await response.json())["result"]
                return found
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            log.warning("answers cannot be read", error=type(error).__name__)
            return None


@dataclass
class Notifier:
    """Sends what is waiting in the store, in order. Without a Telegram, messages end in the log alone."""

    store: Store
    metrics: Metrics
    session: aiohttp.ClientSession
    telegram: Telegram | None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self._wake.set()

    async def serve(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                delivered = await self._deliver()
            except Exception:  # the boundary of this service: a broken store must not end it
                log.exception("notifications stumbled")
                delivered = False
            if delivered:
                pause = FIRST_PAUSE
                await until_woken(self._wake, LOOK_EVERY)  # another replica may leave some behind
            else:  # a new message makes no answer likelier, so it does not cut the pause short
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _deliver(self) -> bool:
        """Whether nothing is left waiting."""
        while True:
            async with self.store.read() as tx:
                waiting = await tx.unsent()
            if not waiting:
                return True
            async with self.store.write() as tx:
                if not await tx.turn("notifications", TURN):
                    return True
            for notification in waiting:
                if not await self._send(notification):
                    return False

    async def _send(self, notification: Notification) -> bool:
        log.info("message to people", run=notification.run_id, text=notification.text)
        answer = Answer()
        if self.telegram is not None:
            answer = await self.telegram.send(self.session, notification.text)
            self.metrics.notifications.labels("telegram", "failed" if answer.error else "sent").inc()
        error, tries = answer.error, notification.tries + 1
        given_up = answer.refused and tries >= GIVE_UP_AFTER
        async with self.store.write() as tx:
            over = {} if error and not given_up else {"sent_at": tx.now}
            await tx.change_notification(notification.id, tries=tries, error=error, **over)
            if not error or given_up:
                event = "notification.given_up" if given_up else "notification.sent"
                await tx.audit(event, run_id=notification.run_id, text=notification.text, error=error)
        if error:
            log.warning("message not sent", run=notification.run_id, error=error, tries=tries)
        return not error or given_up
