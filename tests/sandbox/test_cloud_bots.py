"""Bots are real processes: they are killed, stopped and started, and every fault has its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.cloud import CloudError
from sandbox.faults import CURES, KINDS, CuredBy, FaultKind
from sandbox.processes import state_of
from sandbox.waiting import wait_until

if TYPE_CHECKING:
    from tests.sandbox.conftest import Fleet


async def test_a_bot_answers_health_and_mesh_and_404_elsewhere(fleet: Fleet) -> None:
    bot = await fleet.launch()
    status, health = await fleet.get(bot.bot)
    assert status == 200
    assert health["ok"] is True
    assert health["status"] == "live"
    assert health["boot_id"] == bot.boot_id
    assert health["config_sha"] == "c0ffee"
    assert 0 <= health["context_usage"] <= 1
    assert set(health["usage"]) == {"requests", "input_tokens", "output_tokens"}
    assert await fleet.get(bot.bot, "/mesh") == (200, {"ok": True, "peers": [{"name": "hub", "up": True}]})
    assert (await fleet.get(bot.bot, "/metrics"))[0] == 404


async def test_a_service_restart_changes_started_at_alone(fleet: Fleet) -> None:
    bot = await fleet.launch()
    before = await fleet.until_well(bot.bot)
    assert (await fleet.restart(bot.instance_id))["ResponseCode"] == 0
    after = await fleet.until_well(bot.bot)
    assert after["boot_id"] == before["boot_id"]
    assert after["started_at"] > before["started_at"]
    assert (await fleet.bot(bot.bot)).pid != bot.pid


async def test_a_reboot_changes_boot_id_and_started_at(fleet: Fleet) -> None:
    bot = await fleet.launch()
    before = await fleet.until_well(bot.bot)
    fleet.ec2.reboot_instances(InstanceIds=[bot.instance_id])
    assert fleet.state(bot.instance_id) == "running"
    after = await fleet.until_well(bot.bot)
    assert after["boot_id"] != before["boot_id"]
    assert after["started_at"] > before["started_at"]


async def test_a_hung_bot_is_a_stopped_process_that_accepts_and_never_answers(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "hang")
    assert state_of(bot.pid or 0) == "T"
    assert await fleet.get(bot.bot, timeout=0.3) == (0, "TimeoutError")


async def test_a_slow_bot_answers_late(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "slow", seconds=0.5)
    assert await fleet.get(bot.bot, timeout=0.25) == (0, "TimeoutError")
    assert (await fleet.get(bot.bot))[0] == 200


async def test_a_bot_that_lost_its_mesh_is_healthy(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "mesh")
    assert (await fleet.get(bot.bot))[0] == 200
    assert (await fleet.get(bot.bot, "/mesh"))[0] == 500


async def until_shows(fleet: Fleet, bot: str, expected: FaultKind | None) -> None:
    """On a loaded machine a bot that is well may look slow at first; one that is ill never looks well."""

    async def shown() -> bool:
        return await symptom(fleet, bot) == expected

    await wait_until(shown, what=f"{bot} shows {expected}")


async def symptom(fleet: Fleet, bot: str) -> FaultKind | None:
    """Which fault a bot shows to one who only knocks at its door."""
    status, answer = await fleet.get(bot, timeout=0.3)
    if status == 0:
        return "hang" if answer == "TimeoutError" else "die"
    if status == 500:
        return "error"
    return None if (await fleet.get(bot, "/mesh"))[0] == 200 else "mesh"


@pytest.mark.parametrize("cured_by", CURES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_is_cured_by_its_cure_and_by_nothing_weaker(
    fleet: Fleet, kind: FaultKind, cured_by: CuredBy
) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, kind, cured_by=cured_by, seconds=5)
    ill = "hang" if kind == "slow" else kind  # to whoever waits a moment only, that is the same
    rank = CURES.index(cured_by)

    restarted = await fleet.restart(bot.instance_id)
    await until_shows(fleet, bot.bot, ill if rank > 0 else None)
    assert (restarted["ResponseCode"] != 0) is (kind == "die" and rank > 0)

    fleet.ec2.reboot_instances(InstanceIds=[bot.instance_id])
    await until_booted(fleet, bot.bot, bot.boot_id)
    await until_shows(fleet, bot.bot, ill if rank > 1 else None)

    fleet.ec2.terminate_instances(InstanceIds=[bot.instance_id])
    fleet.run(fleet.request(bot.bot))
    await until_booted(fleet, bot.bot, "")
    await until_shows(fleet, bot.bot, ill if cured_by == "nothing" else None)

    await fleet.cloud.heal(bot.bot)
    await until_shows(fleet, bot.bot, None)


async def until_booted(fleet: Fleet, bot: str, before: str) -> None:
    """A new boot, and its process either serves or has given up."""

    async def booted() -> bool:
        found = await fleet.bot(bot)
        return found.boot_id != before and (found.fault == "die" or await knocks(fleet, bot))

    await wait_until(booted, what=f"{bot} booted")


async def knocks(fleet: Fleet, bot: str) -> bool:
    return (await fleet.get(bot, timeout=0.3)) != (0, "ClientConnectorError")


async def test_nothing_starts_a_dead_bot_again_by_itself(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "die")
    assert (await fleet.bot(bot.bot)).pid is None
    assert (await fleet.get(bot.bot))[0] == 0
    assert (await fleet.bot(bot.bot)).fault == "die"


async def test_healing_all_starts_what_died_and_wakes_what_hangs(fleet: Fleet) -> None:
    first, second = await fleet.launch(), await fleet.launch()
    await fleet.cloud.fault(first.bot, "die", cured_by="nothing")
    await fleet.cloud.fault(second.bot, "hang", cured_by="nothing")
    await fleet.cloud.heal()
    for bot in (first, second):
        await fleet.until_well(bot.bot)
    assert await fleet.actions(first.bot) == ["run"]


async def test_a_fault_of_an_unknown_bot_or_kind_is_refused(fleet: Fleet) -> None:
    with pytest.raises(CloudError, match="nobody"):
        await fleet.cloud.fault("nobody", "die")
    bot = await fleet.launch()
    with pytest.raises(CloudError, match="kind"):
        await fleet.cloud.fault(bot.bot, "dye")  # type: ignore[arg-type]
