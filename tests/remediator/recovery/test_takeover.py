"""Waiting is not acting: a recovery that a gate holds keeps no person out."""

from typing import Any

import pytest

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import World
from tests.remediator.recovery.episodes import RunApp, blocked, ended, ill

REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "recover": ("POST", "/recover/{bot}", {"method": "restart"}),
    "redeploy": ("POST", "/bots/{bot}/redeploy", {"reason": "at once"}),
    "configuration": (
        "POST",
        "/bots/{bot}/config",
        {"overrides": {"heartbeat": "2h"}, "reason": "slower", "apply": True},
    ),
    "rollback": ("POST", "/bots/{bot}/rollback", {"version": 2, "reason": "as it was meant"}),
    "retire": ("DELETE", "/bots/{bot}", None),
}


@pytest.mark.parametrize("asked", REQUESTS)
async def test_what_a_person_asks_takes_over_a_recovery_that_waits(
    run_app: RunApp, world: World, asked: str
) -> None:
    method, path, body = REQUESTS[asked]
    async with run_app(gate_interval=0.5) as app:
        bot, alert = await ill(app, world)
        waits = await app.post(f"/bots/{bot}/config", {"overrides": {"heartbeat": "3h"}, "reason": "later"})
        assert waits.body["version"] == 2, "what a rollback may go to"
        await app.post("/holds", {"scope": "fleet", "reason": "audit day", "by": "ann"})
        (waiting,) = await app.alert(alert)
        await blocked(app, waiting, "paused")
        answer = await app.call(method, path.format(bot=bot), body)
        assert answer.status == 202, answer
        outcome, reason = await ended(app, waiting)
        assert outcome == "cancelled"
        assert "took the bot over while it waited (paused: " in reason
        await app.until_ended(answer.headers["Location"], timeout=60)

        async def counted() -> bool:
            ends = 'bot_remediation_runs_total{kind="recover",outcome="cancelled"}'
            return await app.metric(ends) == 1

        await wait_until(counted, what="the end of the task that drove it")
        assert await app.alert(alert) in ([], [waiting])
        assert (await world.actions(bot)).count("restart") == (asked == "recover")


async def test_a_recovery_at_work_is_not_taken_over_and_the_refusal_says_how_it_is_ended(
    run_app: RunApp, world: World
) -> None:
    async with run_app() as app:
        bot, alert = await ill(app, world, cured_by="reboot")
        (run_id,) = await app.alert(alert)
        await world.until_did(bot, "restart")
        refused = await app.post(f"/bots/{bot}/redeploy", {"reason": "at once"})
        assert refused.status == 409
        assert f"POST /recover/{run_id}/cancel" in refused.body["error"]["remedy"]
        assert (await app.call("POST", f"/recover/{run_id}/cancel", {})).status == 202


@pytest.mark.parametrize("drifted", ["a tag", "the type"])
async def test_a_reconciliation_takes_over_where_it_redeploys_and_else_leaves_the_recovery_waiting(
    run_app: RunApp, world: World, drifted: str
) -> None:
    async with run_app(gate_interval=0.5) as app:
        bot, alert = await ill(app, world)
        instance = await world.instance(bot)
        await app.post("/holds", {"scope": "fleet", "reason": "audit day", "by": "ann"})
        (waiting,) = await app.alert(alert)
        await blocked(app, waiting, "paused")
        if drifted == "a tag":
            world.ec2.create_tags(Resources=[instance], Tags=[{"Key": "Name", "Value": "mine now"}])
        else:
            world.ec2.stop_instances(InstanceIds=[instance])
            world.ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.large"})
        answer = await app.post(f"/bots/{bot}/reconcile", {"apply": True})
        assert answer.status == (200 if drifted == "a tag" else 202), answer
        assert answer.body["plan"], "it drifted"
        assert (await app.get(f"/recover/{waiting}"))["status"] == (
            "blocked" if drifted == "a tag" else "cancelled"
        )
        if drifted != "a tag":
            await app.until_ended(answer.headers["Location"])
