"""What of an alert is news, as `remediator.alerts.intake.store_alert` writes it down."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.alerts.intake import store_alert
from remediator.alerts.webhook import Alert
from remediator.store.store import Store
from tests.remediator.conftest import firing, resolved
from tests.stores import Clock, open_store

LATE = 300.0


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = datetime(2026, 11, 23, tzinfo=UTC).timestamp()  # later than the alerts
    return clock


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with open_store("sqlite", tmp_path, clock) as opened:
        yield opened


async def receive(store: Store, *members: dict[str, object]) -> list[tuple[str, bool]]:
    """Store members of a payload in one transaction. Return of each its status and whether it is news."""
    async with store.write() as tx:
        stored = [await store_alert(tx, Alert.model_validate(member), LATE) for member in members]
    return [(alert.status, news) for alert, news in stored]


async def test_an_episode_is_news_once_when_it_fires_and_once_when_it_is_resolved(store: Store) -> None:
    fires = firing("forge")
    assert await receive(store, fires, fires) == [("firing", True), ("firing", False)]
    assert await receive(store, resolved(fires), resolved(fires)) == [("resolved", True), ("resolved", False)]


async def test_a_firing_that_was_overtaken_by_its_resolution_stays_resolved(
    store: Store, clock: Clock
) -> None:
    fires = firing("forge")
    assert await receive(store, resolved(fires), fires) == [("resolved", True), ("resolved", False)]
    for _ in range(5):
        clock.now += 50
        assert await receive(store, fires) == [("resolved", False)]


async def test_an_episode_that_was_resolved_by_mistake_fires_again(store: Store, clock: Clock) -> None:
    """Alertmanager resolves what Prometheus did not confirm for long; then the same episode goes on."""
    fires = firing("forge")
    await receive(store, fires, resolved(fires))
    clock.now += LATE
    assert await receive(store, fires) == [("firing", True)]


async def test_another_start_is_another_episode(store: Store) -> None:
    first, second = firing("forge"), firing("forge", starts_at="2026-11-22T12:00:00Z")
    assert await receive(store, first, resolved(first), second) == [
        ("firing", True),
        ("resolved", True),
        ("firing", True),
    ]


async def firing_now(store: Store) -> list[float]:
    async with store.read() as tx:
        return sorted(alert.starts_at for alert in await tx.firing_alerts(99))


FIRST, SECOND = firing("forge"), firing("forge", starts_at="2026-11-22T12:00:00Z")


async def test_a_flap_leaves_one_present_state(store: Store) -> None:
    """Within a group_interval it was well and ill again: nobody heard of its first end."""
    assert await receive(store, FIRST) == [("firing", True)]
    assert await receive(store, SECOND) == [("firing", True)]
    assert len(await firing_now(store)) == 1
    assert await receive(store, resolved(SECOND)) == [("resolved", True)]
    assert await firing_now(store) == []


async def test_an_end_of_which_the_beginning_was_lost_is_the_end_of_all_before(store: Store) -> None:
    await receive(store, FIRST)
    assert await receive(store, resolved(SECOND)) == [("resolved", True)]
    assert await firing_now(store) == []


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("end", [[], [resolved(SECOND)]], ids=["firing", "resolved"])
async def test_an_earlier_episode_that_comes_late_changes_nothing(
    store: Store, known: bool, end: list[dict[str, object]]
) -> None:
    """An Alertmanager that sends again, or a second one whose Prometheus saw it begin earlier."""
    await receive(store, *([FIRST] if known else []))
    await receive(store, SECOND, *end)
    before = await firing_now(store)
    assert [status for status, _ in await receive(store, FIRST)] == ["resolved"]
    assert await firing_now(store) == before


async def test_a_start_that_was_corrected_backwards_is_believed_in_the_end(
    store: Store, clock: Clock
) -> None:
    await receive(store, SECOND, resolved(SECOND))
    clock.now += LATE
    assert await receive(store, FIRST) == [("firing", True)]


async def test_a_start_in_the_future_hides_nothing_that_begins_before_it(store: Store, clock: Clock) -> None:
    """The clock of Prometheus was ahead for a while."""
    ahead = firing("forge", starts_at=datetime.fromtimestamp(clock.now + 86400, UTC).isoformat())
    await receive(store, ahead)
    clock.now += 60
    right = firing("forge", starts_at=datetime.fromtimestamp(clock.now - 1, UTC).isoformat())
    assert await receive(store, right) == [("firing", True)]
    assert await receive(store, resolved(right)) == [("resolved", True)]
    assert await firing_now(store) == []


async def test_what_is_another_fingerprints_is_left_alone(store: Store) -> None:
    await receive(store, FIRST, firing("forge", name="BotHealthScoreCritical"))
    await receive(store, SECOND, resolved(SECOND))
    assert len(await firing_now(store)) == 1
