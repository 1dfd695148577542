"""Approvals by Telegram: `/approve RUN` and `/deny RUN`, from the chat that is told and from no other."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import structlog

from remediator.engine import Engine
from remediator.notify import Telegram
from remediator.store import Store
from remediator.transaction import Transaction

log = structlog.get_logger()

POLL_SECONDS: Final = 20  # of Telegram's long poll
PAUSE: Final = 5.0  # seconds after a failure, and between two looks of a replica that does not read
BREATH: Final = 1.0  # seconds after an empty answer: not everything between us and Telegram holds a long poll
COMMAND: Final = re.compile(r"/(approve|deny)(?:@\w+)?\s+(rec-[0-9a-f]+)\s*")


@dataclass
class Answers:
    """One replica reads at a time: Telegram refuses a second (409). The offset is a fact in the store."""

    store: Store
    engine: Engine
    telegram: Telegram
    session: aiohttp.ClientSession

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            try:
                offset = await self._turn()
                if offset is None:
                    await asyncio.sleep(PAUSE)
                    continue
                updates = await self.telegram.updates(self.session, offset, POLL_SECONDS)
                if updates is None:
                    await asyncio.sleep(PAUSE)
                elif updates:
                    await self._take(updates)
                else:
                    await asyncio.sleep(BREATH)
            except Exception:  # the boundary of this service
                log.exception("answers stumbled")
                await asyncio.sleep(PAUSE)

    async def _turn(self) -> int | None:
        """The offset to read from, if it is this replica's turn to read."""
        async with self.store.write() as tx:
            mine = await tx.turn("answers", 2 * POLL_SECONDS)
            return int(await tx.fact("telegram_offset") or 0) if mine else None

    async def _take(self, updates: list[dict[str, Any]]) -> None:
        wake: list[str] = []
        async with self.store.write() as tx:
            for update in updates:
                run_id = await self._answer(tx, update.get("message") or {})
                wake += [run_id] if run_id else []
            await tx.set_fact("telegram_offset", max(one["update_id"] for one in updates) + 1)
        for run_id in wake:
            self.engine.wake(run_id)

    async def _answer(self, tx: Transaction, message: dict[str, Any]) -> str:
        """The run that was answered, if one was."""
        command = COMMAND.fullmatch(str(message.get("text", "")))
        if command is None or str(message.get("chat", {}).get("id")) != self.telegram.chat_id:
            return ""
        decision, run_id = ("yes" if command[1] == "approve" else "no"), command[2]
        who = f"telegram:{message.get('from', {}).get('username') or message.get('from', {}).get('id')}"
        asked = await tx.decide_approval(run_id, decision, who)
        if asked is None:
            await tx.notify("", f"{run_id} does not wait for an answer (any more).")
            return ""
        run = await tx.run(run_id)
        bot = run.bot if run is not None else ""
        await tx.audit(f"approval.{decision}", bot=bot, run_id=run_id, actor=who, tier=asked.tier)
        return run_id
