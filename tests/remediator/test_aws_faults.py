"""An AWS that refuses, is busy, is slow, or does it and loses the answer: at each call of a recovery."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import product
from typing import Any

import pytest
from botocore.exceptions import ClientError

from remediator.ec2 import Aws, AwsError, named
from tests.remediator.conftest import Api, World, firing, serve, settings_for

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
THROTTLED: dict[str, Any] = {"code": "RequestLimitExceeded", "message": "Request limit exceeded."}
DENIED: dict[str, Any] = {
    "code": "UnauthorizedOperation",
    "message": "You are not authorized to perform this operation.",
}


CALLS = {
    "restart": ["SendCommand", "GetCommandInvocation"],
    "reboot": ["RebootInstances", "DescribeInstances"],
    "redeploy": ["RunInstances", "CreateTags", "TerminateInstances"],
}
"""What each tier asks of AWS."""

DONE = {"restart": ["restart"], "reboot": ["reboot"], "redeploy": ["run", "terminate"]}
BREAKINGS: list[dict[str, Any]] = [
    {"how": "refuse", **THROTTLED},
    {"how": "lose_answer"},
    {"how": "delay", "seconds": 0.3},
]


@pytest.mark.parametrize("method", CALLS)
async def test_throttled_or_lost_or_late_a_call_is_carried_out_once(
    app: Api, world: World, method: str
) -> None:
    """One bot, recovered again and again; each time one call is broken in one way."""
    bot = world.name()
    await app.deployed(bot)
    for call, breaking in product(CALLS[method], BREAKINGS):
        before = await world.actions(bot)
        await world.cloud.break_api(call, **breaking)
        run = await app.recover(bot, method)
        assert (run["status"], run["reason"]) == ("recovered", f"{method} cured it"), (call, breaking, run)
        assert (await world.actions(bot))[len(before) :] == DONE[method], (call, breaking)
        assert len(await world.live(bot)) == 1


@pytest.mark.parametrize(
    ("method", "call"), [(method, call) for method, calls in CALLS.items() for call in calls]
)
async def test_what_we_may_not_do_climbs_no_ladder_and_says_so(
    app: Api, world: World, method: str, call: str
) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = await world.instance(bot)
    await world.cloud.fault(bot, "error")
    await world.cloud.break_api(call, "refuse", **DENIED)
    run = await app.recover(bot, method)
    assert run["status"] == "escalated"
    assert [attempt["tier"] for attempt in run["attempts"]] == [method]
    assert "UnauthorizedOperation: You are not authorized" in run["reason"]
    done = await world.actions(bot)
    assert "reboot" not in done
    assert done.count("restart") == (call == "GetCommandInvocation")
    if call == "TerminateInstances":  # the new one runs and is registered; the old one is a person's
        assert len(await world.live(bot)) == 2
        assert "the old one could not be ended" in run["reason"]
    else:
        assert await world.live(bot) == [before], "whatever was launched is gone again"


async def test_an_aws_without_capacity_leaves_the_old_instance_alone(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = await world.instance(bot)
    no_room: dict[str, Any] = {
        "code": "InsufficientInstanceCapacity",
        "message": "There is no Spot or other capacity.",
    }
    await world.cloud.break_api("RunInstances", "refuse", **no_room)
    run = await app.recover(bot, "redeploy")
    assert run["status"] == "escalated"
    assert "InsufficientInstanceCapacity" in run["reason"]
    assert await world.actions(bot) == ["run"]
    assert await world.instance(bot) == before


async def test_the_first_restart_of_all_makes_the_document(own_world: World, tmp_path: Any) -> None:
    bot = own_world.name()
    settings = settings_for(tmp_path / "remediator.db", own_world.cloud)
    async with serve(settings) as app:
        await app.deployed(bot)
        await own_world.cloud.fault(bot, "die")
        (run_id,) = await app.alert(firing(bot))
        assert (await app.until_ended(f"/recover/{run_id}"))["reason"] == "restart cured it"
    found = own_world.ssm.describe_document(Name="BotOrchestrator-RestartBot")["Document"]
    assert found.get("Parameters", []) == []
    assert await own_world.actions(bot) == ["run", "restart"]


async def test_a_clean_up_that_failed_is_said(run_app: RunApp, world: World) -> None:
    """The candidate cannot be ended: it costs money, so people hear of it."""
    bot = world.name()
    async with run_app() as app:
        await app.deployed(bot)
        await world.cloud.break_api("CreateTags", "refuse", **DENIED)
        await world.cloud.break_api("TerminateInstances", "refuse", **DENIED)
        run = await app.recover(bot, "redeploy")
        assert run["status"] == "escalated"
        assert "what was launched could not be ended, and still costs: TerminateInstances" in run["reason"]


@pytest.mark.parametrize(
    ("operation", "code", "status", "kind"),
    [
        ("DescribeInstances", "InternalError", 500, "unavailable"),  # a question: it changed nothing
        ("GetCommandInvocation", "", 502, "unavailable"),
        ("ListCommands", "AccessDeniedException", 400, "denied"),
        ("DescribeInstances", "InvalidParameterValue", 400, "refused"),
        ("RebootInstances", "InternalError", 500, "in_doubt"),
        ("SendCommand", "InternalServerError", 500, "in_doubt"),
        ("RebootInstances", "RequestLimitExceeded", 503, "unavailable"),
        ("RebootInstances", "AccessDenied", 403, "denied"),
        ("RebootInstances", "UnauthorizedOperation", 403, "denied"),
        ("RebootInstances", "InvalidInstanceID.NotFound", 400, "gone"),
        ("RunInstances", "InsufficientInstanceCapacity", 500, "capacity"),
        ("RunInstances", "IdempotentParameterMismatch", 400, "refused"),
    ],
)
def test_every_refusal_is_of_a_known_kind(operation: str, code: str, status: int, kind: str) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert named(operation, ClientError(answer, operation)).kind == kind


async def test_an_aws_that_is_not_there_is_unavailable_and_not_in_doubt() -> None:
    aws = Aws(region="us-west-1", endpoint_url="http://127.0.0.1:9", concurrency=2)
    with pytest.raises(AwsError) as caught:
        await aws.put_token("forge", "42:planted-token")
    assert caught.value.kind == "unavailable"
    assert "planted-token" not in str(caught.value)
