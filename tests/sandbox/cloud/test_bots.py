"""Bots are real processes: they are killed, stopped and started, and every fault has its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.cloud.client import CloudError
from sandbox.cloud.faults import CURES, KINDS, CuredBy, FaultKind
from sandbox.process.processes import state_of
from sandbox.process.waiting import wait_until

if TYPE_CHECKING:
    from tests.sandbox.conftest import Fleet


async def test_a_bot_answers_health_and_mesh_and_404_elsewhere(fleet: Fleet) -> None:
    bot = await fleet.launch()
    status, health = await fleet.get(bot.bot)
    assert (status, health) == (200, {"ok": True, "status": "live"})
    status, told = await fleet.get(bot.bot, "/mesh")
    assert status == 200
    assert (told["boot_id"], told["config_sha"]) == (bot.boot_id, "c0ffee")
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
    """Wait until the bot shows it: on a loaded machine a well one may seem slow, an ill one never well."""

    async def expected_is_shown() -> bool:
        return await symptom(fleet, bot) == expected

    await wait_until(expected_is_shown, what=f"{bot} shows {expected}")


async def symptom(fleet: Fleet, bot: str) -> FaultKind | None:
    """Return the fault that a bot shows to a client."""
    status, answer = await fleet.get(bot, timeout=0.3)
    if status == 0:
        return "hang" if answer == "TimeoutError" else "die"
    if status == 500:
        return "error"
    status, told = await fleet.get(bot, "/mesh")
    if status != 200:
        return "mesh"
    if not told["channels"][0]["up"]:
        return "deaf"
    if told["turn_age_seconds"] > 0:
        return "stuck"
    return "mute" if await turns_fail(fleet, bot, told) else None


async def turns_fail(fleet: Fleet, bot: str, before: Any) -> bool:
    """Return whether its next call of the model fails."""

    async def called() -> Any:
        _, told = await fleet.get(bot, "/mesh")
        requests, failed = (told["usage"][field] - before["usage"][field] for field in ("requests", "failed"))
        return (requests, failed) if requests or failed else None

    _, failed = await wait_until(called, what=f"{bot} calls its model")
    return bool(failed)


async def test_a_mute_bots_calls_fail_for_the_reason_given_and_no_others_do(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "mute", reason="auth")

    async def failed() -> Any:
        _, told = await fleet.get(bot.bot, "/mesh")
        return told["usage"]["failed"] and told["usage"]

    usage = await wait_until(failed, what="a failed call")
    assert set(usage["failed_by"]) == {"auth"}
    assert usage["failed_by"]["auth"] == usage["failed"]
    assert (await fleet.get(bot.bot))[0] == 200


async def test_a_stuck_bots_turn_grows_older_and_ends_with_its_process(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "stuck")

    async def old() -> bool:
        _, told = await fleet.get(bot.bot, "/mesh")
        return float(told["turn_age_seconds"]) > 0.2

    await wait_until(old, what="a turn that is old")
    await fleet.restart(bot.instance_id)
    assert (await fleet.until_well(bot.bot))["turn_age_seconds"] == 0


@pytest.mark.parametrize("cured_by", CURES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_is_cured_by_its_cure_and_by_nothing_weaker(
    fleet: Fleet, kind: FaultKind, cured_by: CuredBy
) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, kind, cured_by=cured_by, seconds=5)
    ill = "hang" if kind == "slow" else kind  # with a short timeout they look the same
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
    """Wait until it booted anew, and its process either serves or has given up."""

    async def booted() -> bool:
        current = await fleet.bot(bot)
        return current.boot_id != before and (current.fault == "die" or await accepts(fleet, bot))

    await wait_until(booted, what=f"{bot} booted")


async def accepts(fleet: Fleet, bot: str) -> bool:
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
