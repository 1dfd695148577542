"""The store in memory stands in for the real one: the same cases over both."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from remediator.alerts import Alert
from remediator.gates import Effect, Verdict
from remediator.ladder import TIERS
from remediator.lease import LeaseLostError
from remediator.model import Bot, Run
from remediator.store import Store
from remediator.trail import faults
from sandbox.simulator.memory import MemoryDatabase, MemoryStore

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", 1000.0, None)
BOT = Bot(
    "forge", "support", "staging", "active", "127.0.0.2:1", "/health", "/mesh", "i-1", {}, "sha", None, None,
    "", None, None, 0, 0, 0,
)  # fmt: skip


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(
            MemoryDatabase(clock, alone=True), replica="a", lease_seconds=30, clock=clock, monotonic=clock
        )
        return
    opened = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 's.db'}", clock)
    yield opened
    await opened.close()


@pytest.fixture
async def kept(store: Store) -> Store:
    """With a bot and its run."""
    async with store.write() as tx:
        await tx.add_bot(BOT)
        await tx.add_run(RUN)
    return store


def alert(status: str = "firing") -> Alert:
    return Alert.model_validate(
        {
            "status": status,
            "labels": {"alertname": "BotDown", "bot": "forge", "remediation": "auto"},
            "startsAt": "2026-11-22T10:00:00Z",
            "fingerprint": "abc",
        }
    )


async def test_what_a_transaction_wrote_is_seen_by_itself_and_by_the_next(kept: Store) -> None:
    async with kept.write() as tx:
        await tx.change_bot("forge", zone="a")
        assert (await tx.bot("forge")) == replace(BOT, zone="a", updated_at=1000.0)
    async with kept.read() as tx:
        assert [bot.zone for bot in await tx.bots()] == ["a"]
        assert await tx.bot("nobody") is None


async def test_nothing_of_a_transaction_that_failed_is_kept(kept: Store) -> None:
    with pytest.raises(RuntimeError, match="planted"):  # noqa: PT012 -- the transaction is one thing
        async with kept.write() as tx:
            await tx.change_bot("forge", zone="b")
            await tx.audit("something", bot="forge")
            await tx.intend("rec-1", "restart", {})
            await tx.change_run("rec-1", finished_at=1.0)
            raise RuntimeError("planted")
    async with kept.read() as tx:
        found = await tx.bot("forge")
        assert found is not None
        assert found.zone == ""
        assert await tx.steps("rec-1") == []
        assert await tx.audit_trail(bot=None, after=0, limit=9) == []
        assert [run.id for run in await tx.active_runs()] == ["rec-1"]


async def test_a_bot_has_one_active_run_and_a_run_one_step_of_a_name(kept: Store) -> None:
    for clash in ("run", "id", "bot", "step"):
        with pytest.raises(IntegrityError):  # noqa: PT012 -- the transaction is one thing
            async with kept.write() as tx:
                if clash == "run":
                    await tx.add_run(replace(RUN, id="rec-2"))
                elif clash == "id":
                    await tx.add_run(replace(RUN, bot="atlas"))
                elif clash == "bot":
                    await tx.add_bot(BOT)
                else:
                    await tx.intend("rec-1", "restart", {})
                    await tx.intend("rec-1", "restart", {})
    async with kept.write() as tx:
        await tx.change_run("rec-1", finished_at=1001.0, status="recovered")
        await tx.add_run(replace(RUN, id="rec-2"))
        last, active = await tx.last_recovery("forge"), await tx.active_run("forge")
        assert (last and last.id, active and active.id) == ("rec-1", "rec-2")


async def test_a_lease_holds_until_another_replica_claims(kept: Store) -> None:
    async with kept.read() as tx:
        run = await tx.run("rec-1")
    assert run is not None
    assert (run.owner, run.fence, run.lease_until) == (kept.replica, 1, 1030.0)
    lease = kept.lease(run)
    async with kept.hold(lease) as tx:
        assert await tx.claim([], 9) == [], "it is driven here, or was just begun"
        assert await tx.beat(["rec-1", "rec-9"]) == {"rec-1": 1}
    async with kept.write() as tx:
        await tx.change_run("rec-1", owner="another")
        assert [(one.id, one.fence) for one in await tx.claim([], 9)] == [("rec-1", 2)]
    with pytest.raises(LeaseLostError):
        async with kept.hold(lease) as tx:
            await tx.change_bot("forge", zone="z")
    async with kept.write() as tx:
        await tx.release(["rec-1"])
        assert [one.owner for one in await tx.active_runs()] == [None]
        assert [one.fence for one in await tx.claim([], 9)] == [3]
        bot = await tx.bot("forge")
    assert bot is not None
    assert bot.zone == ""


async def test_a_forgotten_run_of_our_own_is_taken_up_after_a_while(kept: Store, clock: Clock) -> None:
    clock.now = 1030 + 61.0
    async with kept.write() as tx:
        assert await tx.claim(["rec-1"], 9) == []
        assert [run.id for run in await tx.claim([], 9)] == ["rec-1"]


async def test_an_alert_is_news_once(kept: Store, clock: Clock) -> None:
    async with kept.write() as tx:
        assert [(await tx.see_alert(alert(), 300))[1] for _ in range(2)] == [True, False]
        seen, news = await tx.see_alert(alert("resolved"), 300)
        assert (seen.status, seen.times_seen, news) == ("resolved", 3, True)
        assert (await tx.see_alert(alert(), 300))[0].status == "resolved", "overtaken on its way"
        await tx.change_alert(seen, run_id="rec-1")
    clock.now += 301
    async with kept.write() as tx:
        assert (await tx.see_alert(alert(), 300))[1]
        assert [one.status for one in await tx.alerts_of("rec-1")] == ["firing"]
        assert len(await tx.firing_alerts(9)) == 1


async def test_tiers_are_counted(kept: Store, clock: Clock) -> None:
    async with kept.write() as tx:
        await tx.intend("rec-1", "restart", {"instance_id": "i-1"})
        clock.now += 1
    async with kept.write() as tx:
        await tx.intend("rec-1", "launch", {})
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
        assert [(one.gate, one.allowed, one.at) for one in await tx.verdicts("rec-1")] == [
            ("fleet", False, 1001.0)
        ]
        await tx.change_run("rec-1", status="blocked")
        assert [run.id for run in await tx.blocked(9)] == ["rec-1"]


async def test_what_people_decide(kept: Store, clock: Clock) -> None:
    async with kept.write() as tx:
        await tx.ask_approval("rec-1", "reboot", 1010.0)
        assert await tx.decide_approval("rec-2", "yes", "ann") is None
        assert await tx.decide_approval("rec-1", "yes", "ann") is not None
        assert await tx.decide_approval("rec-1", "no", "bob") is None
        decided = await tx.approval("rec-1", "reboot")
        assert decided is not None
        assert (decided.decision, decided.actor) == ("yes", "ann")
        hold = await tx.add_hold(
            scope="fleet", name="", reason="work", actor="ann", starts_at=0.0, ends_at=1005.0
        )
        assert [one.id for one in await tx.holds()] == [hold]
        clock.now = 1006.0
    async with kept.write() as tx:
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


async def test_the_trail_is_chained(kept: Store) -> None:
    for number in range(3):
        async with kept.write() as tx:
            await tx.audit("event", bot="forge" if number else "atlas", number=number)
            await tx.audit("event", number=number)
    async with kept.read() as tx:
        trail = await tx.audit_trail(bot=None, after=0, limit=99)
        assert faults(trail, await tx.fact("audit_head")) == []
        assert faults([*trail[:2], *trail[3:]], await tx.fact("audit_head")) != []
        assert len(await tx.audit_trail(bot="forge", after=None, limit=9)) == 2
        assert [one.id for one in await tx.audit_trail(bot=None, after=4, limit=9)] == [5, 6]


async def test_many_are_found_at_once(kept: Store, clock: Clock) -> None:
    names = ["atlas", "forge", "iris", "nobody"]
    async with kept.write() as tx:
        for name in ("atlas", "iris"):
            await tx.add_bot(replace(BOT, name=name, state="deploying" if name == "iris" else "active"))
        await tx.change_run("rec-1", finished_at=1001.0, status="recovered")
        await tx.add_runs([replace(RUN, id="rec-2", created_at=1002.0)])
        await tx.change_run("rec-2", finished_at=1003.0, status="unneeded")
        await tx.add_runs(
            [replace(RUN, id="rec-3", created_at=1004.0), replace(RUN, id="rec-4", bot="atlas")]
        )
        assert await tx.add_runs([]) == []
    async with kept.read() as tx:
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


async def test_the_queue_is_of_those_that_wait_for_a_place_or_a_turn_oldest_first(kept: Store) -> None:
    waiting = [
        ("rec-2", "atlas", 1002.0, "in_flight: 3 other bots"),
        ("rec-3", "iris", 1001.0, "rate: one more in 3 s"),
        ("rec-4", "nova", 1000.5, "paused: maintenance"),
    ]
    async with kept.write() as tx:
        for run_id, name, at, reason in waiting:
            await tx.add_bot(replace(BOT, name=name))
            await tx.add_run(replace(RUN, id=run_id, bot=name, created_at=at))
            await tx.change_run(run_id, status="blocked", reason=reason)
    async with kept.read() as tx:
        assert await tx.queue(9) == ["rec-3", "rec-2"]
        assert await tx.queue(1) == ["rec-3"]
        ahead = [await tx.ahead(replace(RUN, id=run_id, created_at=at)) for run_id, _, at, _ in waiting]
        assert ahead == [1, 0, 0]


async def test_an_alert_of_many_is_known_by_its_start(kept: Store) -> None:
    async with kept.write() as tx:
        await tx.see_alert(alert(), 300)
    async with kept.write() as tx:
        await tx.expect({alert().episode, ("other", 1.0), (alert().fingerprint, 2.0)})
        assert await tx.alert(*alert().episode) is not None
        assert await tx.alert(alert().fingerprint, 2.0) is None


async def test_a_group_is_kept_by_template_and_environment(store: Store) -> None:
    for said in ("once", "twice"):
        async with store.write() as tx:
            await tx.keep_scaling("support", "staging", {"said": said})
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
        assert await tx.brought_by(["a", "b", "nobody"]) == {"a": "scaling", "b": "jo"}
