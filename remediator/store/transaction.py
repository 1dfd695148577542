"""What a transaction offers. On a database it is `sql_transaction`; a simulation has one of its own.

Every method is one statement or two. A feature with tables of its own keeps its statements in a
`repository.py`, made over `one`, `all` and `execute`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, CursorResult, Executable, Select

from remediator.model import (
    Approval,
    AuditEntry,
    Bot,
    ConfigVersion,
    Episode,
    Hold,
    Notification,
    Run,
    Step,
    StoredAlert,
    StoredVerdict,
    Verdict,
)
from remediator.store.audit import ENGINE
from remediator.store.lease import Lease

T = TypeVar("T")


class Transaction(Protocol):
    """All that is read in it was so at one moment; what is written in it is kept as a whole or not at all.

    `now` (Unix seconds) is the one reading of the database's clock for all of it. Every method may raise
    StoreUnavailableError, and those that add a row ConflictError where it is there already.
    """

    now: float

    # statements

    async def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Execute a statement, for each of `values` if they are a list."""

    async def one(self, kind: Callable[..., T], statement: Executable) -> T | None:
        """Return the first row, made into `kind` by the names of its columns; None where there is none."""

    async def all(self, kind: Callable[..., T], statement: Executable) -> list[T]:
        """Return every row, made into `kind` by the names of its columns."""

    async def where_in(
        self,
        kind: Callable[..., T],
        statement: Select[Any],
        column: ColumnElement[Any],
        values: Collection[Any],
    ) -> list[T]:
        """Return the rows whose column has one of the values, however many those are."""

    # bots, and the configurations of each

    async def bot(self, name: str) -> Bot | None: ...
    async def bots(self) -> list[Bot]:
        """Return all bots by name."""

    async def bots_named(self, names: Collection[str]) -> dict[str, Bot]:
        """Return by name those of the names that are registered."""

    async def fleet(self, sample: int) -> tuple[int, list[Bot]]:
        """Return how many bots are active, and at most `sample` of them, drawn at random."""

    async def add_bot(self, bot: Bot) -> None: ...
    async def change_bot(self, name: str, **changes: Any) -> None: ...
    async def remove_bot(self, name: str) -> None: ...
    async def versions(self, bot: str) -> list[ConfigVersion]:
        """Return the bot's configurations, oldest first."""

    async def version(self, bot: str, number: int | None = None) -> ConfigVersion | None:
        """Return that configuration of the bot, or the newest."""

    async def add_version(self, version: ConfigVersion) -> None: ...

    # runs

    async def run(self, run_id: str) -> Run | None: ...
    async def active_runs(self) -> list[Run]:
        """Return the runs that have not ended, oldest first."""

    async def active_run(self, bot: str) -> Run | None: ...
    async def active_runs_of(self, names: Collection[str]) -> dict[str, Run]:
        """Return the active run of each of these bots that has one, by bot."""

    async def last_recovery(self, bot: str) -> Run | None:
        """Return the bot's most recent recovery that ended."""

    async def last_recoveries(self, names: Collection[str]) -> dict[str, Run]:
        """Return the most recent recovery that ended of each of these bots that had one, by bot."""

    async def runs_named(self, run_ids: Collection[str]) -> dict[str, Run]:
        """Return by id those of the runs that there are."""

    async def recent_deployments(self, limit: int) -> list[Run]:
        """Return the newest of all runs that are no recoveries, newest first."""

    async def recent_runs(self, kind: str, limit: int) -> list[Run]:
        """Return the newest runs of the kind, newest first."""

    async def add_run(self, run: Run) -> Run:
        """Begin a run with this replica as its owner. Return it as stored."""

    async def add_runs(self, begun: Sequence[Run]) -> list[Run]:
        """Begin many runs as `add_run` does one."""

    async def change_run(self, run_id: str, **changes: Any) -> None: ...
    async def end_waiting(self, run_id: str, status: str, reason: str) -> bool:
        """End a run that waits at a gate, whoever drives it: its lease is lost from now on.

        Return False, and change nothing, where it does not wait (any more).
        """

    async def renew_or_raise(self, lease: Lease) -> None:
        """Renew the run's lease, or raise LeaseLostError: then nothing of this transaction is kept."""

    async def renew(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Renew the leases of these runs. Return the fence of each that is still this replica's, by id."""

    async def claim(self, live: Sequence[str], limit: int) -> list[Run]:
        """Take over the oldest runs whose owner is gone; `live` are those that this replica drives.

        Where no other process can be at work on the database, the owner before this one is dead. Else it is
        gone once its lease is over, and a run of this replica's own once that was OWN_GRACE seconds ago.
        """

    async def release(self, run_ids: Sequence[str]) -> None:
        """Give up these runs, for the replica that claims them first."""

    async def blocked(self, limit: int) -> list[Run]:
        """Return the runs that have waited longest at a gate."""

    async def queue(self, limit: int) -> list[str]:
        """Return the ids of the runs that have waited longest for an in-flight or a rate limit."""

    async def queue_position(self, run: Run) -> int:
        """Return how many runs of that queue are before the run."""

    # alerts

    async def alert(self, fingerprint: str, starts_at: float) -> StoredAlert | None: ...
    async def load_alerts(self, episodes: Collection[Episode]) -> None:
        """Read these episodes at once, before each of them, or those of a fingerprint, is asked for."""

    async def present_episodes(self, fingerprint: str) -> list[StoredAlert]:
        """Return those of the fingerprint's episodes that fire, and the newest, in no order."""

    async def add_alert(self, alert: StoredAlert) -> None: ...
    async def change_alert(self, alert: StoredAlert, **changes: Any) -> None: ...
    async def alerts_of(self, run_id: str) -> list[StoredAlert]:
        """Return the alerts that belong to the run, oldest first."""

    async def firing_alerts(self, limit: int) -> list[StoredAlert]:
        """Return the firing alerts that were received last, newest first."""

    # steps and verdicts of a run

    async def steps(self, run_id: str) -> list[Step]:
        """Return the steps of the run in the order in which they were intended."""

    async def steps_of_recent_runs(self, kind: str, statuses: Sequence[str], limit: int) -> list[Step]:
        """Return the steps of the newest runs of the kind that ended so, run by run and in order."""

    async def add_step(self, run_id: str, name: str, request: Mapping[str, Any]) -> None:
        """Write down that the step is about to be done, and with what."""

    async def change_step(self, run_id: str, name: str, **changes: Any) -> None: ...
    async def in_flight(self, tiers: Sequence[str], excluding: str) -> list[Bot]:
        """Return the bots of other runs than `excluding` that are in the middle of a tier."""

    async def intents(self, tiers: Sequence[str], since: float) -> list[float]:
        """Return when tiers were begun, in any run, oldest first."""

    async def attempts_of(self, bot: str, tiers: Sequence[str], since: float) -> int:
        """Return how many tiers were tried on the bot because of alerts."""

    async def steps_under_way(self) -> dict[str, list[Step]]:
        """Return the steps of every deployment that has not ended, by run and in order, in one statement.

        What a step asked for and got is left out, for it is large; of a `plan` the request is kept.
        """

    async def launched_by(self, bot: Bot) -> Mapping[str, Any] | None:
        """Return the request that launched the bot's instance; None where it was not launched by us."""

    async def verdicts(self, run_id: str) -> list[StoredVerdict]:
        """Return what the gates said of the run, oldest first."""

    async def add_verdicts(self, run_id: str, tier: str, judged: Sequence[Verdict]) -> None: ...

    # rollouts

    async def cancel_rollouts(self, reason: str) -> None:
        """End every rollout that has not ended."""

    # the audit trail

    async def audit(
        self, event: str, *, bot: str = "", run_id: str = "", actor: str = ENGINE, **detail: object
    ) -> None:
        """Add an entry to the trail."""

    async def audit_trail(self, *, bot: str | None, after: int | None, limit: int) -> list[AuditEntry]:
        """Return, oldest first, the entries that follow `after`, or the newest ones where it is None."""

    async def deployed_by(self, bots: Collection[str]) -> dict[str, str]:
        """Return who deployed or adopted each of these bots, by bot, as the trail has it."""

    # messages to people

    async def notify(self, run_id: str, text: str) -> None:
        """Leave a message for the notifier to send."""

    async def unsent(self, limit: int = 20) -> list[Notification]:
        """Return the messages that wait to be sent, oldest first."""

    async def change_notification(self, notification_id: int, **changes: Any) -> None: ...

    # what people decide

    async def holds(self) -> list[Hold]:
        """Return the pauses and maintenance windows that are not over."""

    async def add_hold(self, **values: Any) -> int:
        """Add a pause or a maintenance window. Return its id."""

    async def remove_hold(self, hold_id: int) -> bool:
        """Lift a pause. Return whether there was one."""

    async def approval(self, run_id: str, tier: str) -> Approval | None: ...
    async def open_approval(self, run_id: str) -> Approval | None:
        """Return the request that waits for a person's answer, or has waited too long."""

    async def ask_approval(self, run_id: str, tier: str, expires_at: float) -> None: ...
    async def decide_approval(self, run_id: str, decision: str, actor: str) -> Approval | None:
        """Answer the run's open request, yes or no. Return it as it was, or None where there is none."""

    # facts

    async def fact(self, name: str) -> Any:
        """Return the fact's value; None where it was never set."""

    async def set_fact(self, name: str, value: object) -> None: ...
    async def try_lead(self, role: str, seconds: float) -> bool:
        """Lead the role for that long from now, unless another replica does. Return whether we do."""

    async def scaling(self, template: str, environment: str) -> dict[str, Any]:
        """Return the state of the group; {} where it has none yet."""

    async def scaling_states(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the states of all groups that ever scaled, by template and environment."""

    async def set_scaling(self, template: str, environment: str, state: Mapping[str, Any]) -> None:
        """Write the state of the group."""
