"""The round of everything about costs, again and again: accounts, then counsel, then what a scrape shows."""

import asyncio
from dataclasses import dataclass

import structlog

from remediator.accounts import Accounts
from remediator.cost_report import open_books, samples
from remediator.counsel import Counsel

log = structlog.get_logger()


@dataclass
class Bookkeeper:
    accounts: Accounts
    counsel: Counsel

    async def serve(self) -> None:
        """One replica writes the books; each shows them in its own metrics."""
        interval = self.accounts.settings.cost_interval
        while True:
            await asyncio.sleep(interval)
            try:
                async with self.accounts.store.write() as tx:
                    ours = await tx.turn("cost", 2 * interval)
                if ours:
                    await self.accounts.round()
                    await self.counsel.round()
                await self.show()
            except Exception:  # the boundary of this task: the books go on where they were
                log.exception("the books were not kept")

    async def show(self) -> None:
        if self.accounts.instances is None:
            await self.accounts.look()  # of a replica that does not write them
        async with self.accounts.store.read() as tx:
            books = await open_books(tx, self.accounts)
        shown = await asyncio.to_thread(samples, books)
        self.accounts.metrics.cost.show(shown)
