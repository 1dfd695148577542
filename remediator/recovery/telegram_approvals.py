"""Approvals by Telegram: `/approve RUN` and `/deny RUN`, from the chat that is notified and from no other."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import aiohttp
import structlog

from remediator.engine.engine import Engine
from remediator.notifications.telegram import Telegram
from remediator.recovery.begin import decide
from remediator.store.store import Store
from remediator.store.transaction import Transaction

log = structlog.get_logger()

LONG_POLL: Final = 20  # seconds
PAUSE: Final = 5.0  # seconds after a failure, and between two tries of a replica to become the reader
IDLE_PAUSE: Final = (
    1.0  # seconds after an empty answer: not everything between us and Telegram holds a long poll
)
COMMAND: Final = re.compile(r"/(approve|deny)(?:@\w+)?\s+(rec-[0-9a-f]+)\s*")


@dataclass
class TelegramApprovals:
    """One replica reads at a time: Telegram refuses a second (409). The offset is a fact in the store."""

    store: Store
    engine: Engine
    telegram: Telegram
    session: aiohttp.ClientSession

    async def serve(self) -> None:
        """Read what people wrote, until cancelled."""
        while True:
            try:
                await asyncio.sleep(await self._read_once())
            except Exception:  # the boundary of this service
                log.exception("answers stumbled")
                await asyncio.sleep(PAUSE)

    async def _read_once(self) -> float:
        """Handle the updates of one long poll, and return the seconds until the next."""
        offset = await self._offset()
        if offset is None:
            return PAUSE
        updates = await self.telegram.updates(self.session, offset, LONG_POLL)
        if updates is None:
            return PAUSE
        if not updates:
            return IDLE_PAUSE
        await self._handle(updates)
        return 0

    async def _offset(self) -> int | None:
        """Return the offset to read from; None where another replica reads."""
        async with self.store.write() as tx:
            leading = await tx.try_lead("answers", 2 * LONG_POLL)
            return int(await tx.fact("telegram_offset") or 0) if leading else None

    async def _handle(self, updates: list[dict[str, Any]]) -> None:
        decided: list[str] = []
        async with self.store.write() as tx:
            for update in updates:
                run_id = await self._decide(tx, update.get("message") or {})
                decided += [run_id] if run_id else []
            await tx.set_fact("telegram_offset", max(update["update_id"] for update in updates) + 1)
        for run_id in decided:
            self.engine.wake(run_id)

    async def _decide(self, tx: Transaction, message: dict[str, Any]) -> str:
        """Write down the decision in the message, and return its run; "" where there is none."""
        command = COMMAND.fullmatch(str(message.get("text", "")))
        if command is None or str(message.get("chat", {}).get("id")) != self.telegram.chat_id:
            return ""
        decision: Literal["yes", "no"] = "yes" if command[1] == "approve" else "no"
        run_id = command[2]
        sender = message.get("from", {})
        actor = f"telegram:{sender.get('username') or sender.get('id')}"
        if await decide(tx, run_id, decision, actor) is None:
            await tx.notify("", f"{run_id} does not wait for an answer (any more).")
            return ""
        return run_id
