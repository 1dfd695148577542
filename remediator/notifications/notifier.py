"""Messages to people: on disk first, and sent until they have arrived."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import structlog

from remediator.metrics import Metrics
from remediator.model import Notification
from remediator.notifications.channel import Channel, SendResult
from remediator.notifications.channels import CHANNELS
from remediator.periodic import wait_for
from remediator.store.store import Store

log = structlog.get_logger()

OUTCOMES: Final = ("sent", "failed")
POLL_INTERVAL: Final = 2.0  # seconds after which what other runs and replicas left is sent, too
LEAD_SECONDS: Final = 60.0  # seconds for which one replica alone sends
FIRST_PAUSE: Final = 1.0  # seconds after a failure; each further failure doubles it
LONGEST_PAUSE: Final = 60.0
GIVE_UP_AFTER: Final = 20  # refusals, about a quarter of an hour; the message stays in the audit trail


@dataclass
class Notifier:
    """Sends what is waiting in the store, in order. Without a channel, messages end in the log alone."""

    store: Store
    metrics: Metrics
    session: aiohttp.ClientSession
    channel: Channel | None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _retry_after: float = 0.0  # seconds in which the channel takes nothing, by its last answer

    def __post_init__(self) -> None:
        for channel in CHANNELS:
            for outcome in OUTCOMES:  # at 0: see Metrics
                self.metrics.notifications.labels(channel.name, outcome)

    def wake(self) -> None:
        """Look for new messages now, not at the next poll."""
        self._wake.set()

    async def serve(self) -> None:
        """Send messages, until cancelled."""
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
                await wait_for(self._wake, POLL_INTERVAL)
            else:  # a new message makes no answer likelier, so it does not cut the pause short
                await asyncio.sleep(max(pause, self._retry_after))
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _deliver(self) -> bool:
        """Send all that waits; return whether nothing is left for this replica to send."""
        while True:
            async with self.store.read() as tx:
                waiting = await tx.unsent()
            if not waiting:
                return True
            async with self.store.write() as tx:
                if not await tx.try_lead("notifications", LEAD_SECONDS):
                    return True
            for notification in waiting:
                if not await self._send(notification):
                    return False

    async def _send(self, notification: Notification) -> bool:
        """Send one message; return whether it was sent or given up."""
        log.info("message to people", run=notification.run_id, text=notification.text)
        result = SendResult()
        if self.channel is not None:
            result = await self.channel.send(self.session, notification.text)
            outcome = "failed" if result.error else "sent"
            self.metrics.notifications.labels(self.channel.name, outcome).inc()
        self._retry_after = result.retry_after
        error, tries = result.error, notification.tries + 1
        given_up = result.unsendable or (result.refused and tries >= GIVE_UP_AFTER)
        async with self.store.write() as tx:
            sent = {} if error and not given_up else {"sent_at": tx.now}
            await tx.change_notification(notification.id, tries=tries, error=error, **sent)
            if not error or given_up:
                event = "notification.given_up" if given_up else "notification.sent"
                await tx.audit(event, run_id=notification.run_id, text=notification.text, error=error)
        if error:
            log.warning("message not sent", run=notification.run_id, error=error, tries=tries)
        return not error or given_up
