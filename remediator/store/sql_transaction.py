"""The transaction on a database: a mixin for each concept, and what they buffer is written at the end."""

from remediator.store.alerts import AlertQueries
from remediator.store.audit import AuditQueries
from remediator.store.bots import BotQueries
from remediator.store.controls import ControlQueries
from remediator.store.notifications import NotificationQueries
from remediator.store.rollouts import RolloutQueries
from remediator.store.runs import RunQueries
from remediator.store.steps import StepQueries


class SqlTransaction(
    BotQueries,
    RunQueries,
    AlertQueries,
    StepQueries,
    RolloutQueries,
    AuditQueries,
    NotificationQueries,
    ControlQueries,
):
    """Fulfils `remediator.store.transaction.Transaction`."""

    async def flush(self) -> None:
        """Write what the mixins have buffered."""
        await self.flush_alerts()
        await self.flush_audit()
