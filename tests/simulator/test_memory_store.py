"""The store in memory stands in for the real one: the same cases over both."""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from remediator.alerts.intake import store_alert
from remediator.alerts.webhook import Alert
from remediator.model import TIERS, Bot, Effect, Run, Verdict
from remediator.store.audit import verify_chain
from remediator.store.errors import ConflictError
from remediator.store.lease import LeaseLostError
from remediator.store.schema import budgets, rollouts
from remediator.store.store import Store
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore
from tests.stores import Clock, open_store

RUN = Run("rec-1", "recover", "forge", "alert", "", "populated", "", "", 1000.0, None)
BOT = Bot(
    "forge", "support", "staging", "active", "127.0.0.2:1", "/health", "/mesh", "i-1", {}, "sha", None, None,
    "", None, None, 0, 0, 0,
)  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with open_store(request.param, tmp_path, clock) as opened:
        yield opened


@pytest.fixture
async def populated(store: Store) -> Store:
    """Return a store with a bot and its active run."""
    async with store.write() as tx:
        await tx.add_bot(BOT)
        await tx.add_run(RUN)
    return store


def alert(status: str = "firing") -> Alert:
    """Return a member of a payload, always of the same episode."""
    return Alert.model_validate(
        {
            "status": status,
            "labels": {"alertname": "BotDown", "bot": "forge", "remediation": "auto"},
            "startsAt": "2026-11-22T10:00:00Z",
            "fingerprint": "abc",
        }
    )


async def test_what_a_transaction_wrote_is_seen_by_itself_and_by_the_next(populated: Store) -> None:
    async with populated.write() as tx:
        await tx.change_bot("forge", zone="a")
        assert (await tx.bot("forge")) == replace(BOT, zone="a", updated_at=1000.0)
    async with populated.read() as tx:
        assert [bot.zone for bot in await tx.bots()] == ["a"]
        assert await tx.bot("nobody") is None


async def test_nothing_of_a_transaction_that_failed_is_kept(populated: Store) -> None:
    with pytest.raises(RuntimeError, match="planted"):  # noqa: PT012 -- the transaction is one thing
        async with populated.write() as tx:
            await tx.change_bot("forge", zone="b")
            await tx.audit("something", bot="forge")
            await tx.add_step("rec-1", "restart", {})
            await tx.change_run("rec-1", finished_at=1.0)
            raise RuntimeError("planted")
    async with populated.read() as tx:
        bot = await tx.bot("forge")
        assert bot is not None
        assert bot.zone == ""
        assert await tx.steps("rec-1") == []
        assert await tx.audit_trail(bot=None, after=0, limit=9) == []
        assert [run.id for run in await tx.active_runs()] == ["rec-1"]


async def test_a_bot_has_one_active_run_and_a_run_one_step_of_a_name(populated: Store) -> None:
    for clash in ("run", "id", "bot", "step"):
        with pytest.raises(ConflictError):  # noqa: PT012 -- the transaction is one thing
            async with populated.write() as tx:
                if clash == "run":
                    await tx.add_run(replace(RUN, id="rec-2"))
                elif clash == "id":
                    await tx.add_run(replace(RUN, bot="atlas"))
                elif clash == "bot":
                    await tx.add_bot(BOT)
                else:
                    await tx.add_step("rec-1", "restart", {})
                    await tx.add_step("rec-1", "restart", {})
    async with populated.write() as tx:
        await tx.change_run("rec-1", finished_at=1001.0, status="recovered")
        await tx.add_run(replace(RUN, id="rec-2"))
        last, active = await tx.last_recovery("forge"), await tx.active_run("forge")
        assert (last and last.id, active and active.id) == ("rec-1", "rec-2")


async def test_a_lease_holds_until_another_replica_claims(populated: Store) -> None:
    async with populated.read() as tx:
        run = await tx.run("rec-1")
    assert run is not None
    assert (run.owner, run.fence, run.lease_until) == (populated.replica, 1, 1030.0)
    lease = populated.lease(run)
    async with populated.write_as(lease) as tx:
        assert await tx.claim([], 9) == [], "it is driven here, or was just begun"
        assert await tx.renew(["rec-1", "rec-9"]) == {"rec-1": 1}
    async with populated.write() as tx:
        await tx.change_run("rec-1", owner="another")
        assert [(run.id, run.fence) for run in await tx.claim([], 9)] == [("rec-1", 2)]
    with pytest.raises(LeaseLostError):
        async with populated.write_as(lease) as tx:
            await tx.change_bot("forge", zone="z")
    async with populated.write() as tx:
        await tx.release(["rec-1"])
        assert [run.owner for run in await tx.active_runs()] == [None]
        assert [run.fence for run in await tx.claim([], 9)] == [3]
        bot = await tx.bot("forge")
    assert bot is not None
    assert bot.zone == ""


async def test_a_forgotten_run_of_our_own_is_taken_up_after_a_while(populated: Store, clock: Clock) -> None:
    clock.now = 1030 + 61.0
    async with populated.write() as tx:
        assert await tx.claim(["rec-1"], 9) == []
        assert [run.id for run in await tx.claim([], 9)] == ["rec-1"]


async def test_an_alert_is_news_once(populated: Store, clock: Clock) -> None:
    async with populated.write() as tx:
        assert [(await store_alert(tx, alert(), 300))[1] for _ in range(2)] == [True, False]
        resolved, news = await store_alert(tx, alert("resolved"), 300)
        assert (resolved.status, resolved.times_seen, news) == ("resolved", 3, True)
        assert (await store_alert(tx, alert(), 300))[0].status == "resolved", "overtaken on its way"
        await tx.change_alert(resolved, run_id="rec-1")
    clock.now += 301
    async with populated.write() as tx:
        assert (await store_alert(tx, alert(), 300))[1]
        assert [stored.status for stored in await tx.alerts_of("rec-1")] == ["firing"]
        assert len(await tx.firing_alerts(9)) == 1


async def test_tiers_are_counted(populated: Store, clock: Clock) -> None:
    async with populated.write() as tx:
        await tx.add_step("rec-1", "restart", {"instance_id": "i-1"})
        clock.now += 1
    async with populated.write() as tx:
        await tx.add_step("rec-1", "launch", {})
        assert [bot.name for bot in await tx.in_flight(TIERS, "rec-2")] == ["forge"]
        assert await tx.in_flight(TIERS, "rec-1") == []
        assert await tx.intents(TIERS, 0) == [1000.0]
        assert await tx.intents(TIERS, 1000.0) == []
        assert await tx.attempts_of("forge", TIERS, 0) == 1
        await tx.change_step("rec-1", "restart", state="shadowed", finished_at=tx.now)
        assert await tx.attempts_of("forge", TIERS, 0) == 0
        assert await tx.in_flight(TIERS, "rec-2") == []
        steps = await tx.steps("rec-1")
        assert [(step.name, step.state, step.request, step.intended_at) for step in steps] == [
            ("restart", "shadowed", {"instance_id": "i-1"}, 1000.0),
            ("launch", "intended", {}, 1001.0),
        ]
        await tx.add_verdicts("rec-1", "restart", [Verdict("fleet", Effect.hold, "why")])
        (verdict,) = await tx.verdicts("rec-1")
        assert (verdict.gate, verdict.allowed, verdict.at) == ("fleet", False, 1001.0)
        await tx.change_run("rec-1", status="blocked")
        assert [run.id for run in await tx.blocked(9)] == ["rec-1"]


async def test_what_people_decide(populated: Store, clock: Clock) -> None:
    async with populated.write() as tx:
        assert await tx.open_approval("rec-1") is None
        await tx.ask_approval("rec-1", "reboot", 1010.0)
        asked = await tx.open_approval("rec-1")
        assert asked is not None
        assert (asked.tier, asked.decision) == ("reboot", "")
        assert await tx.decide_approval("rec-2", "yes", "ann") is None
        assert await tx.decide_approval("rec-1", "yes", "ann") is not None
        assert await tx.decide_approval("rec-1", "no", "bob") is None
        assert await tx.open_approval("rec-1") is None
        decided = await tx.approval("rec-1", "reboot")
        assert decided is not None
        assert (decided.decision, decided.actor) == ("yes", "ann")
        hold = await tx.add_hold(
            scope="fleet", name="", reason="work", actor="ann", starts_at=0.0, ends_at=1005.0
        )
        assert [current.id for current in await tx.holds()] == [hold]
        clock.now = 1006.0
    async with populated.write() as tx:
        assert await tx.holds() == []
        assert await tx.remove_hold(hold)
        assert not await tx.remove_hold(hold)
        await tx.set_fact("storm", {"active": True})
        await tx.set_fact("storm", {"active": False})
        assert await tx.fact("storm") == {"active": False}
        assert await tx.fact("nothing") is None
        await tx.notify("rec-1", "hello")
        (waiting,) = await tx.unsent()
        await tx.change_notification(waiting.id, sent_at=1.0)
        assert await tx.unsent() == []


async def test_the_trail_is_chained(populated: Store) -> None:
    for number in range(3):
        async with populated.write() as tx:
            await tx.audit("event", bot="forge" if number else "atlas", number=number)
            await tx.audit("event", number=number)
    async with populated.read() as tx:
        trail = await tx.audit_trail(bot=None, after=0, limit=99)
        assert verify_chain(trail, await tx.fact("audit_head")) == []
        assert verify_chain([*trail[:2], *trail[3:]], await tx.fact("audit_head")) != []
        assert len(await tx.audit_trail(bot="forge", after=None, limit=9)) == 2
        assert [entry.id for entry in await tx.audit_trail(bot=None, after=4, limit=9)] == [5, 6]


async def test_many_are_found_at_once(populated: Store, clock: Clock) -> None:
    names = ["atlas", "forge", "iris", "nobody"]
    async with populated.write() as tx:
        for name in ("atlas", "iris"):
            await tx.add_bot(replace(BOT, name=name, state="deploying" if name == "iris" else "active"))
        await tx.change_run("rec-1", finished_at=1001.0, status="recovered")
        await tx.add_runs([replace(RUN, id="rec-2", created_at=1002.0)])
        await tx.change_run("rec-2", finished_at=1003.0, status="unneeded")
        await tx.add_runs(
            [replace(RUN, id="rec-3", created_at=1004.0), replace(RUN, id="rec-4", bot="atlas")]
        )
        assert await tx.add_runs([]) == []
    async with populated.read() as tx:
        assert sorted(await tx.bots_named(names)) == ["atlas", "forge", "iris"]
        assert await tx.bots_named([]) == {}
        assert {bot: run.id for bot, run in (await tx.active_runs_of(names)).items()} == {
            "forge": "rec-3",
            "atlas": "rec-4",
        }
        assert {bot: run.id for bot, run in (await tx.last_recoveries(names)).items()} == {"forge": "rec-2"}
        assert sorted(await tx.runs_named(["rec-1", "rec-4", "rec-9"])) == ["rec-1", "rec-4"]
        total, drawn = await tx.fleet(9)
        assert (total, [bot.name for bot in drawn]) == (2, ["atlas", "forge"])
        total, drawn = await tx.fleet(1)
        assert (total, len(drawn)) == (2, 1)


async def test_the_queue_is_of_those_that_wait_for_a_place_or_a_turn_oldest_first(populated: Store) -> None:
    waiting = [
        ("rec-2", "atlas", 1002.0, "in_flight: 3 other bots"),
        ("rec-3", "iris", 1001.0, "rate: one more in 3 s"),
        ("rec-4", "nova", 1000.5, "paused: maintenance"),
    ]
    async with populated.write() as tx:
        for run_id, name, at, reason in waiting:
            await tx.add_bot(replace(BOT, name=name))
            await tx.add_run(replace(RUN, id=run_id, bot=name, created_at=at))
            await tx.change_run(run_id, status="blocked", reason=reason)
    async with populated.read() as tx:
        assert await tx.queue(9) == ["rec-3", "rec-2"]
        assert await tx.queue(1) == ["rec-3"]
        queued = [replace(RUN, id=run_id, created_at=at) for run_id, _, at, _ in waiting]
        assert [await tx.queue_position(run) for run in queued] == [1, 0, 0]


async def test_an_alert_of_many_is_known_by_its_start(populated: Store) -> None:
    async with populated.write() as tx:
        await store_alert(tx, alert(), 300)
    async with populated.write() as tx:
        await tx.load_alerts({alert().episode, ("other", 1.0), (alert().fingerprint, 2.0)})
        assert await tx.alert(*alert().episode) is not None
        assert await tx.alert(alert().fingerprint, 2.0) is None


async def test_a_group_is_kept_by_template_and_environment(store: Store) -> None:
    for text in ("once", "twice"):
        async with store.write() as tx:
            await tx.set_scaling("support", "staging", {"said": text})
    async with store.read() as tx:
        assert await tx.scaling("support", "staging") == {"said": "twice"}
        assert await tx.scaling("support", "production") == {}


async def test_a_bot_was_brought_by_whoever_did_it_last(store: Store) -> None:
    """A name that scaling used may be a person's next, by deploying or by adopting."""
    async with store.write() as tx:
        await tx.audit("deploy.asked", bot="a", actor="jo")
        await tx.audit("deploy.asked", bot="b", actor="scaling")
        await tx.audit("adopt.asked", bot="c", actor="scaling")
    async with store.write() as tx:
        await tx.audit("deploy.asked", bot="a", actor="scaling")
        await tx.audit("adopt.asked", bot="b", actor="jo")
        await tx.audit("recover.asked", bot="a", actor="jo")
    async with store.read() as tx:
        assert await tx.deployed_by(["a", "b", "nobody"]) == {"a": "scaling", "b": "jo"}


async def test_one_replica_leads_until_its_time_is_over(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=False)
    first, second = (
        MemoryStore(database, replica=name, lease_seconds=30, clock=clock, monotonic=clock) for name in "ab"
    )

    async def leads(store: Store) -> bool:
        async with store.write() as tx:
            return await tx.try_lead("drift", 60)

    assert [await leads(first), await leads(second), await leads(first)] == [True, False, True]
    clock.now += 61
    assert [await leads(second), await leads(first)] == [True, False]


async def test_what_is_not_simulated_says_so(clock: Clock) -> None:
    """It never answers that there is nothing, as if it had been asked."""
    database = MemoryDatabase(clock, alone=True)
    store = MemoryStore(database, replica="a", lease_seconds=30, clock=clock, monotonic=clock)
    async with store.write() as tx:
        calls: tuple[Awaitable[object], ...] = (
            tx.one(dict, select(rollouts)),
            tx.all(dict, select(rollouts)),
            tx.where_in(dict, select(rollouts), rollouts.c.id, ["rol-1"]),
            tx.execute(insert(rollouts)),
            tx.cancel_rollouts("reason"),
        )
        for call in calls:
            with pytest.raises(NotImplementedError, match="rollouts are not simulated"):
                await call
        assert await tx.all(dict, select(budgets)) == [], "every deploy asks, and no world has one"
