"""The round of everything about costs, again and again: accounts, then counsel, then what a scrape shows."""

import asyncio
from dataclasses import dataclass

from remediator.accounts import Accounts
from remediator.cost_report import open_books, samples
from remediator.counsel import Counsel
from remediator.rounds import repeat


@dataclass
class Bookkeeper:
    accounts: Accounts
    counsel: Counsel

    async def serve(self) -> None:
        """One replica writes the books; each shows them in its own metrics."""
        await repeat(self._round, self.accounts.settings.cost_interval, "the books were not kept")

    async def _round(self) -> None:
        async with self.accounts.store.write() as tx:
            ours = await tx.turn("cost", 2 * self.accounts.settings.cost_interval)
        if ours:
            await self.accounts.round()
            await self.counsel.round()
        await self.show()

    async def show(self) -> None:
        if self.accounts.instances is None:
            await self.accounts.look()  # of a replica that does not write them
        async with self.accounts.store.read() as tx:
            books = await open_books(tx, self.accounts)
        shown = await asyncio.to_thread(samples, books)
        self.accounts.metrics.cost.show(shown)
