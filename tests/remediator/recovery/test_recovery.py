"""Recoveries over a cloud: real bots fall ill, and what was done to them is read from the cloud's own log."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from exporter.probing.probe import Session
from remediator.engine.journal import Outcome
from remediator.model import Tier
from remediator.monitoring.prober import Observation
from remediator.recovery.tier_request import TierRequest
from remediator.recovery.tiers import ACTIONS, Actuators
from sandbox.cloud.faults import CuredBy, FaultKind
from sandbox.process.waiting import wait_until
from sandbox.stack.telegram import Telegram
from tests.remediator.conftest import Api, World, firing, read_rows, resolved, write_rows

RunApp = Callable[..., AbstractAsyncContextManager[Api]]

RUN, RESTART, REBOOT, TERMINATE = "run", "restart", "reboot", "terminate"
DONE: dict[CuredBy, list[str]] = {
    "restart": [RUN, RESTART],
    "reboot": [RUN, RESTART, REBOOT],
    "redeploy": [RUN, RESTART, REBOOT, RUN, TERMINATE],
}
"""Actions on a bot's instances until that cure is reached: each tier once, none skipped."""


async def test_each_fault_is_cured_by_its_own_tier(run_app: RunApp, world: World) -> None:
    """Nine bots, each fault with each cure, side by side; every tier below the cure is tried once."""
    kinds: list[FaultKind] = ["die", "hang", "error"]
    cures: list[CuredBy] = ["restart", "reboot", "redeploy"]
    ill = dict(zip(world.names(9), product(kinds, cures), strict=True))
    async with run_app(restart_timeout=6, reboot_timeout=8) as app:
        await app.deployed(*ill)
        before = {bot: await world.instance(bot) for bot in ill}
        for bot, (kind, cure) in ill.items():
            await world.cloud.fault(bot, kind, cured_by=cure)
        ids = await app.alert(*map(firing, ill))
        runs = [await app.until_ended(f"/recover/{run_id}") for run_id in ids]
        for run in runs:
            _, cure = ill[run["botId"]]
            tiers = [attempt["tier"] for attempt in run["attempts"]]
            assert (run["status"], run["reason"]) == ("recovered", f"{cure} cured it"), run
            assert tiers == cures[: cures.index(cure) + 1]
            assert run["attempts"][-1]["outcome"] == "cured"
            assert {"healthy", "resolved", "fleet", "in_flight"} <= {gate["gate"] for gate in run["gates"]}
            assert all(gate["verdict"] == "open" for gate in run["gates"])
            assert await world.actions(run["botId"]) == DONE[cure]
            is_same = await world.instance(run["botId"]) == before[run["botId"]]
            assert is_same == (cure != "redeploy")
        registered = {
            target["labels"]["bot"]: target["labels"]["instance_id"] for target in await app.get("/sd")
        }
        assert registered == {bot: await world.instance(bot) for bot in ill}
        for tier in cures:
            cured = f'bot_remediation_attempts_total{{outcome="cured",tier="{tier}"}}'
            assert await app.metric(cured) == 3
        assert await app.metric('bot_remediation_runs_total{kind="recover",outcome="recovered"}') == 9
        assert await app.metric('bot_remediation_duration_seconds_count{kind="recover"}') == 9


async def test_a_slow_bot_is_ill_only_when_it_is_slower_than_our_patience(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.fault(bot, "slow", seconds=0.1)
    (run_id,) = await app.alert(firing(bot))
    assert (await app.until_ended(f"/recover/{run_id}"))["status"] == "unneeded"
    await world.cloud.fault(bot, "slow", seconds=5)
    (run_id,) = await app.alert(firing(bot, starts_at="2099-01-01T00:00:00Z"))
    assert (await app.until_ended(f"/recover/{run_id}"))["reason"] == "restart cured it"


@pytest.mark.parametrize("cancelled", [False, True], ids=["it ends", "a person cancels"])
async def test_for_want_of_descriptors_a_tier_is_neither_cured_nor_not(
    run_app: RunApp, world: World, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """From the restart on no probe gets a socket, for longer than the bot has to become well."""
    bot, connect, restart = world.name(), Session.connect, ACTIONS["restart"]
    loop, timeout = asyncio.get_running_loop(), 1.0
    blind_since: list[float] = []
    overdue = asyncio.Event()

    async def restart_and_be_blind(actuators: Actuators, request: TierRequest) -> Outcome:
        outcome = await restart.do(actuators, request)
        blind_since.append(loop.time())
        return outcome

    async def connect_unless_blind(session: Session, *arguments: Any) -> Any:
        if not blind_since:
            return await connect(session, *arguments)
        if loop.time() > blind_since[0] + 2 * timeout:
            overdue.set()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Session, "connect", connect_unless_blind)
    async with run_app(restart_timeout=timeout) as app:
        await app.deployed(bot)
        monkeypatch.setitem(ACTIONS, "restart", replace(restart, do=restart_and_be_blind))
        await world.cloud.fault(bot, "die", cured_by="restart")
        (run_id,) = await app.alert(firing(bot))
        async with asyncio.timeout(60):
            await overdue.wait()
        run = await app.get(f"/recover/{run_id}")
        assert (run["finishedAt"], [attempt["tier"] for attempt in run["attempts"]]) == (None, ["restart"])
        if cancelled:
            await app.post(f"/recover/{run_id}/cancel", {})
        else:
            blind_since.clear()
        run = await app.until_ended(f"/recover/{run_id}")
        assert run["status"] == ("cancelled" if cancelled else "recovered"), run
        assert await world.actions(bot) == DONE["restart"]


async def test_an_incurable_bot_goes_to_a_person_and_is_left_alone_until_they_act(
    run_app: RunApp, world: World, telegram: Telegram
) -> None:
    bot = world.name()
    timeouts = {"restart_timeout": 1, "reboot_timeout": 1, "redeploy_timeout": 3}
    chat: Any = {"telegram_api_url": telegram.url, "telegram_token": "7:bot", "telegram_chat_id": "1"}
    async with run_app(**timeouts, **chat) as app:
        await app.deployed(bot)
        telegram.messages.clear()
        await world.cloud.fault(bot, "error", cured_by="nothing")
        (run_id,) = await app.alert(firing(bot))
        run = await app.until_ended(f"/recover/{run_id}")
        assert run["status"] == "escalated"
        assert [attempt["tier"] for attempt in run["attempts"]] == ["restart", "reboot", "redeploy"]
        assert all(tier in run["reason"] for tier in ("restart", "reboot", "redeploy"))
        acted = await world.actions(bot)
        assert acted == [RUN, RESTART, REBOOT, RUN, TERMINATE], (
            "the candidate was never well: it is the one to go"
        )
        await wait_until(lambda: has_message(telegram, "needs a person"), what="the message")

        # The next alert, whether of this episode or of a new one, is ignored; so is its resolution.
        later = firing(bot, starts_at="2099-01-01T00:00:00Z")
        assert await app.alert(later) == []
        assert await app.alert(firing(bot)) == [run_id], "overtaken by the later episode, so it is over"
        assert await app.alert(resolved(firing(bot)), resolved(later)) == [run_id]
        assert await app.metric('bot_remediator_alerts_ignored_total{reason="quarantined"}') == 1
        assert await app.metric(f'bot_quarantined{{bot="{bot}"}}') == 1

    async with run_app(**timeouts, **chat) as app:
        assert await app.metric(f'bot_quarantined{{bot="{bot}"}}') == 1, "a restart of ours clears nothing"
        (entry,) = (await app.get("/dashboard"))["registry"]
        assert (entry["state"], entry["quarantine_reason"]) == ("quarantined", run["reason"])
        assert await world.actions(bot) == acted
        assert [message.text for message in telegram.messages if "needs a person" in message.text] == [
            f"🚨 {bot} needs a person. It is left alone from now on. Tried: {run['reason']}\n{run_id}"
        ]

        await world.cloud.heal(bot)
        assert (await app.recover(bot))["status"] == "recovered"
        assert await app.metric(f'bot_quarantined{{bot="{bot}"}}') is None
        assert await app.alert(firing(bot, name="BotSick", starts_at="2099-01-02T00:00:00Z")) != []


async def has_message(telegram: Telegram, text: str) -> bool:
    return any(text in message.text for message in telegram.messages)


async def test_in_a_fleet_wide_outage_nothing_is_done_and_it_says_why(run_app: RunApp, world: World) -> None:
    bots = world.names(4)
    async with run_app(fleet_max_unhealthy_ratio=0.3) as app:
        await app.deployed(*bots)
        for bot in bots[:3]:
            await world.cloud.fault(bot, "error")
        ids = await app.alert(*map(firing, bots[:3]))
        assert len(ids) == 3
        for run_id in ids:
            run = await app.until_status(f"/recover/{run_id}", "blocked")
            assert run["reason"].startswith("fleet: 3 of 4 bots are ill (75%); limit: 30%, at least 1")
            closed = [gate for gate in run["gates"] if gate["verdict"] == "closed"]
            assert [gate["gate"] for gate in closed] == ["fleet"], "said once, not at every look"
        storm = (await app.get("/dashboard"))["summary"]["storm"]
        assert storm["active"]
        assert (storm["unhealthy"], storm["total"], storm["ratio"], storm["limit"]) == (3, 4, 0.75, 0.3)
        assert "3 of 4 bots are ill, limit: 30%" in storm["reason"]
        assert await app.metric("bot_remediation_storm_active") == 1
        assert await app.metric("bot_remediation_fleet_unhealthy_ratio") == 0.75
        assert await app.metric(f'bot_remediation_blocked{{bot="{bots[0]}",reason="fleet"}}') == 1
        assert await app.metric('bot_remediation_blocked_total{reason="fleet"}') == 3

        await world.cloud.heal()
        for run_id in ids:
            run = await app.until_ended(f"/recover/{run_id}")
            assert (run["status"], run["attempts"]) == ("unneeded", [])

        async def over() -> bool:
            return not (await app.get("/dashboard"))["summary"]["storm"]["active"]

        await wait_until(over, what="the end of the storm")
        assert await app.metric("bot_remediation_storm_active") == 0
        for bot in bots:
            assert await world.actions(bot) == [RUN]


async def test_a_fleet_of_three_heals_one(run_app: RunApp, world: World) -> None:
    bots = world.names(3)
    async with run_app(fleet_max_unhealthy_ratio=0.3) as app:
        await app.deployed(*bots)
        await world.cloud.fault(bots[0], "die")
        (run_id,) = await app.alert(firing(bots[0]))
        assert (await app.until_ended(f"/recover/{run_id}"))["status"] == "recovered"


async def test_a_storm_holds_the_next_tier_too_and_a_person_overrides_it(
    run_app: RunApp, world: World
) -> None:
    bots = world.names(4)
    async with run_app(fleet_max_unhealthy_ratio=0.3, restart_timeout=2) as app:
        await app.deployed(*bots)
        await world.cloud.fault(bots[0], "error", cured_by="reboot")
        (run_id,) = await app.alert(firing(bots[0]))
        await world.until_did(bots[0], RESTART)
        await world.cloud.fault(bots[1], "error")
        run = await app.until_status(f"/recover/{run_id}", "blocked")
        assert [attempt["tier"] for attempt in run["attempts"]] == ["restart"]
        assert await world.actions(bots[0]) == [RUN, RESTART]
        assert (await app.recover(bots[1]))["status"] == "recovered"
        assert (await app.until_ended(f"/recover/{run_id}"))["reason"] == "reboot cured it"


async def test_never_more_bots_are_acted_on_at_once_than_the_cap_allows(
    run_app: RunApp, world: World, tmp_path: Path
) -> None:
    """Eight ill bots, a cap of two: counted from the journal's own times, intent to verdict."""
    bots = world.names(8)
    async with run_app(max_in_flight=2) as app:
        await app.deployed(*bots)
        for bot in bots:
            await world.cloud.fault(bot, "error")
        ids = await app.alert(*map(firing, bots))
        runs = [await app.until_ended(f"/recover/{run_id}") for run_id in ids]
        assert [run["status"] for run in runs] == ["recovered"] * 8
        assert [await world.actions(bot) for bot in bots] == [[RUN, RESTART]] * 8
        assert (await app.metric('bot_remediation_blocked_total{reason="in_flight"}') or 0) >= 6
    query = "select intended_at, finished_at from steps where name = 'restart'"
    spans = read_rows(tmp_path / "remediator.db", query)
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    in_flight, most = 0, 0
    for _, change in changes:
        in_flight += change
        most = max(most, in_flight)
    assert most == 2


async def test_a_bot_that_is_well_when_we_look_needs_nothing(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    (run_id,) = await app.alert(firing(bot))
    run = await app.until_ended(f"/recover/{run_id}")
    assert (run["status"], run["reason"]) == ("unneeded", "the bot is healthy now: nothing to do")
    assert await world.actions(bot) == [RUN]


async def test_a_person_may_restart_a_bot_that_is_well(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    for method, done in (("restart", [RUN, RESTART]), ("reboot", [RUN, RESTART, REBOOT])):
        run = await app.recover(bot, method)
        assert (run["status"], run["trigger"]) == ("recovered", "manual")
        assert await world.actions(bot) == done


async def test_a_resolution_between_two_tiers_stops_the_next(run_app: RunApp, world: World) -> None:
    """The bot stays ill, but nobody asks for it any more."""
    bot = world.name()
    async with run_app(restart_timeout=2) as app:
        await app.deployed(bot)
        await world.cloud.fault(bot, "error", cured_by="nothing")
        (run_id,) = await app.alert(firing(bot))
        await world.until_did(bot, RESTART)
        assert await app.alert(resolved(firing(bot))) == [run_id]
        run = await app.until_ended(f"/recover/{run_id}")
        assert (run["status"], run["reason"]) == ("resolved", "every alert that asked for this is resolved")
        assert [attempt["tier"] for attempt in run["attempts"]] == ["restart"]
        assert await world.actions(bot) == [RUN, RESTART]
        # It did not see the bot well, so it answers for no other alert of it.
        (other,) = await app.alert(firing(bot, name="BotHealthScoreCritical"))
        assert other != run_id
        await app.alert(resolved(firing(bot, name="BotHealthScoreCritical")))
        await app.until_ended(f"/recover/{other}")


async def test_one_of_two_alerts_resolved_stops_nothing(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(restart_timeout=2) as app:
        await app.deployed(bot)
        await world.cloud.fault(bot, "error", cured_by="reboot")
        other = firing(bot, name="BotHealthScoreCritical")
        (run_id,) = await app.alert(firing(bot), other)
        await app.alert(resolved(other))
        run = await app.until_ended(f"/recover/{run_id}")
        assert run["reason"] == "reboot cured it"
        assert {alert["name"]: alert["status"] for alert in run["alerts"]} == {
            "BotDown": "firing",
            "BotHealthScoreCritical": "resolved",
        }


async def test_a_reboot_is_verified_by_the_boot_id(app: Api, world: World, tmp_path: Path) -> None:
    """The bot goes on answering for a moment, or never went down: with the old boot_id that is no cure."""
    bot = world.name()
    await app.deployed(bot)
    (before,) = [machine for machine in await world.cloud.bots() if machine.bot == bot]
    run = await app.recover(bot, "reboot")
    (after,) = [machine for machine in await world.cloud.bots() if machine.bot == bot]
    assert run["attempts"][0]["outcome"] == "cured"
    assert after.boot_id != before.boot_id
    assert read_rows(tmp_path / "remediator.db", "select boot_id from bots") == [(after.boot_id,)]


def test_a_healthy_answer_with_the_boot_id_from_before_a_reboot_does_not_count() -> None:
    unchanged = "it answers, but has not rebooted"
    assert rejection("reboot", Observation(True, "ok", boot_id="b-1"), boot_id="b-1") == unchanged
    assert rejection("reboot", Observation(True, "ok", boot_id="b-2"), boot_id="b-1") is None
    assert rejection("reboot", Observation(True, "a bot that names no boot_id"), boot_id=None) is None


def test_nor_does_one_with_the_start_from_before_a_restart() -> None:
    unchanged = "it answers, but has not restarted"
    assert rejection("restart", Observation(True, "ok", started_at="100"), started_at="100") == unchanged
    assert rejection("restart", Observation(True, "ok", started_at="200"), started_at="100") is None


def rejection(tier: Tier, observation: Observation, **before: str | None) -> str | None:
    """Say why the observation proves no cure by the tier, of a bot that was so before it."""
    boot: dict[str, Any] = {"boot_id": None, "started_at": None, **before}
    nothing: Any = None
    request = TierRequest(nothing, nothing, tier, instance_id="i-1", began_at=0, timeout=1, **boot)
    return ACTIONS[tier].reject(request, observation)


async def test_a_bot_whose_instance_is_gone_is_redeployed(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    gone = await world.instance(bot)
    world.ec2.terminate_instances(InstanceIds=[gone])
    (run_id,) = await app.alert(firing(bot))
    run = await app.until_ended(f"/recover/{run_id}")
    assert run["reason"] == "redeploy cured it"
    assert [attempt["outcome"] for attempt in run["attempts"]] == ["failed", "failed", "cured"]
    assert all(
        gone in attempt["detail"] and "terminated" in attempt["detail"] for attempt in run["attempts"][:2]
    )
    assert await world.actions(bot) == [RUN, TERMINATE, RUN]


async def test_an_instance_without_our_tag_is_never_touched(app: Api, world: World, tmp_path: Path) -> None:
    bot = world.name()
    await app.deployed(bot)
    ours = await world.instance(bot)
    foreign = world.ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    await wait_until(lambda: is_running(world, foreign), what="the foreign instance")
    await point_at(tmp_path / "remediator.db", bot, foreign)
    await world.cloud.fault(bot, "die")
    run = await app.recover(bot)
    assert [attempt["outcome"] for attempt in run["attempts"]] == ["failed", "failed", "cured"]
    assert (
        f"instance {foreign} is not found with the tag bot-orchestrator:managed=true"
        in run["attempts"][0]["detail"]
    )
    touched = {effect.instance_id: effect.action for effect in await world.cloud.effects()}
    assert touched[foreign] == RUN
    tags = world.ec2.describe_instances(InstanceIds=[foreign])["Reservations"][0]["Instances"][0]
    assert (tags["State"]["Name"], tags.get("Tags", [])) == ("running", [])
    assert touched[ours] == RUN, "nor was the one that is ours, but not this bot's any more"


async def test_a_bot_without_an_instance_never_means_all_of_them(
    app: Api, world: World, tmp_path: Path
) -> None:
    bot, other = world.names(2)
    await app.deployed(bot, other)
    await point_at(tmp_path / "remediator.db", bot, "")
    run = await app.recover(bot)
    assert run["reason"].startswith(
        "healthy after restart, which failed: SendCommand: the bot has no instance ("
    )
    await world.cloud.fault(bot, "die")
    run = await app.recover(bot)
    assert [attempt["detail"].partition(" (")[0] for attempt in run["attempts"][:2]] == [
        "SendCommand: the bot has no instance",
        "RebootInstances: the bot has no instance",
    ]
    assert run["status"] == "recovered"
    assert await world.actions(other) == [RUN]
    assert await world.actions(bot) == [RUN, RUN]


async def is_running(world: World, instance_id: str) -> bool:
    instance = world.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return instance["State"]["Name"] == "running"


async def point_at(database: Path, bot: str, instance_id: str) -> None:
    """Write another instance into the registry."""
    await write_rows(database, "update bots set instance_id = ? where name = ?", [instance_id, bot])
