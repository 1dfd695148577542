"""The messages to people that wait to be sent, and those that were."""

from sqlalchemy import insert, select, update

from remediator.model import Notification
from remediator.store.schema import notifications
from remediator.store.statements import Statements


class NotificationQueries(Statements):
    """The statements on `notifications`."""

    async def notify(self, run_id: str, text: str) -> None:
        await self.execute(
            insert(notifications).values(at=self.now, run_id=run_id, text=text, tries=0, error="")
        )

    async def unsent(self, limit: int = 20) -> list[Notification]:
        waiting = notifications.c.sent_at.is_(None)
        return await self.all(
            Notification, select(notifications).where(waiting).order_by(notifications.c.id).limit(limit)
        )

    async def change_notification(self, notification_id: int, **changes: object) -> None:
        await self.execute(
            update(notifications).where(notifications.c.id == notification_id).values(**changes)
        )
