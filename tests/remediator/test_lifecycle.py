"""The life of a bot beside its deployments: adopted, retired; and what nobody claims."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import yaml

from sandbox.waiting import wait_until
from tests.remediator.conftest import Answer, Api, Remediator, World, firing

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]
DENIED: dict[str, Any] = {"code": "UnauthorizedOperation", "message": "You are not authorized."}
MANAGED = {"Key": "bot-orchestrator:managed", "Value": "true"}


def run_by_hand(world: World, bot: str, **tags: str) -> str:
    """An instance that somebody launched without us."""
    files = [{"path": "/etc/bot/bot.json", "content": json.dumps({"bot": bot, "port": 18790})}]
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    request: Any = {"TagSpecifications": [{"ResourceType": "instance", "Tags": tagged}]} if tagged else {}
    answer = world.ec2.run_instances(
        ImageId="ami-0abc",
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        UserData="#cloud-config\n" + yaml.safe_dump({"write_files": files}),
        **request,
    )
    return answer["Instances"][0]["InstanceId"]


async def until_up(world: World, instance_id: str) -> None:
    async def up() -> bool:
        return any(one.instance_id == instance_id and one.pid for one in await world.cloud.bots())

    await wait_until(up, what=f"{instance_id} up")


def tags_of(world: World, id_: str) -> dict[str, str]:
    found = world.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [id_]}])["Tags"]
    return {tag.get("Key", ""): tag.get("Value", "") for tag in found}


def snapshots(world: World, bot: str) -> list[Any]:
    filters: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    return list(world.ec2.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"])


def volumes(world: World, bot: str) -> list[Any]:
    filters: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    return list(world.ec2.describe_volumes(Filters=filters)["Volumes"])


async def adopt(app: Api, bot: str, instance_id: str, **more: Any) -> Answer:
    wish = {"botName": bot, "botType": "support", "environment": "staging", "instanceId": instance_id}
    return await app.post("/bots", wish | more)


async def retire(app: Api, bot: str, query: str = "") -> Any:
    answer = await app.call("DELETE", f"/bots/{bot}{query}")
    assert answer.status == 202, answer
    return await app.until_ended(f"/deploy/{answer.body['deploymentId']}")


# adopt


async def test_an_instance_that_runs_a_bot_is_adopted_and_is_then_a_bot_as_any_other(
    app: Api, world: World
) -> None:
    bot = world.name()
    instance_id = run_by_hand(world, bot)
    await until_up(world, instance_id)
    answer = await adopt(app, bot, instance_id, telegramToken="42:adopted", by="ann")
    assert (answer.status, answer.body["status"]) == (201, "adopted"), answer
    tags = tags_of(world, instance_id)
    assert (tags["bot-orchestrator:managed"], tags["bot-orchestrator:bot"]) == ("true", bot)
    assert world.has_token(bot)
    (target,) = [one for one in await app.get("/sd") if one["labels"]["bot"] == bot]
    assert target["labels"]["instance_id"] == instance_id
    assert target["targets"] == [answer.body["address"]]
    (version,) = await app.get(f"/bots/{bot}/versions")
    assert (version["origin"], version["by"]) == ("adopt", "ann")
    await world.cloud.fault(bot, "die")
    (run_id,) = await app.alert(firing(bot))
    assert (await app.until_ended(f"/recover/{run_id}"))["reason"] == "restart cured it"
    run = await app.recover(bot, "redeploy")
    assert run["status"] == "recovered"
    assert await world.instance(bot) != instance_id


async def test_what_cannot_be_adopted_is_left_as_it_was_and_the_field_is_named(
    app: Api, world: World
) -> None:
    ours, theirs, dead = world.names(3)
    await app.deployed(ours)
    instance_id = run_by_hand(world, theirs)
    dead_id = run_by_hand(world, dead)
    await until_up(world, instance_id)
    await until_up(world, dead_id)
    await world.cloud.fault(dead, "die", cured_by="nothing")
    for bot, id_, status, field, said in (
        (ours, instance_id, 409, "botName", "exists already"),
        (theirs, await world.instance(ours), 409, "instanceId", f"the bot {ours!r}'s"),
        (theirs, "i-00000000000000000", 422, "instanceId", "there is no"),
        (theirs, "everything", 422, "instanceId", "match"),
        (dead, dead_id, 422, "instanceId", "no healthy answer at"),
    ):
        answer = await adopt(app, bot, id_)
        assert (answer.status, answer.field) == (status, field), answer
        assert said in answer.body["error"]["message"]
    assert "bot-orchestrator:managed" not in tags_of(world, instance_id)
    assert len(await app.get("/sd")) == 1


async def test_an_adoption_that_may_not_tag_leaves_no_bot(app: Api, world: World) -> None:
    bot = world.name()
    instance_id = run_by_hand(world, bot)
    await until_up(world, instance_id)
    await world.cloud.break_api("CreateTags", "refuse", **DENIED)
    answer = await adopt(app, bot, instance_id, telegramToken="42:adopted")
    assert answer.status == 502
    assert "allow ec2:CreateTags" in answer.body["error"]["message"]
    assert await app.get("/sd") == []
    assert not world.has_token(bot)
    assert (await adopt(app, bot, instance_id)).body["warnings"][-1].startswith("no Telegram token")


async def test_an_instance_that_a_run_is_launching_is_not_adopted(app: Api, world: World) -> None:
    bot, other = world.names(2)
    await world.cloud.break_api("DescribeInstances", "delay", seconds=1, times=2)
    began = await app.begin_deploy(bot)
    await world.until_did(bot, "run")
    await until_up(world, await world.instance(bot))
    answer = await adopt(app, other, await world.instance(bot))
    ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
    assert ended["status"] == "deployed"
    assert (answer.status, answer.field) == (409, "instanceId"), answer


# retire


async def test_a_retired_bot_leaves_nothing_but_the_snapshot_that_was_asked_for(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True) as app:
        await app.deployed(bot)
        instance_id = await world.instance(bot)
        (volume,) = volumes(world, bot)
        ended = await retire(app, bot, "?snapshot=true&by=ann")
        assert ended["status"] == "retired", ended
        assert [step["name"] for step in ended["steps"]] == [
            "asked",
            "stopped",
            "snapshot",
            "snapshot complete",
            "terminated",
            "address released",
            "token deleted",
        ]
        assert await world.actions(bot) == ["run", "stop", "terminate"]
        assert await world.live(bot) == []
        assert volumes(world, bot) == []
        assert world.ec2.describe_addresses()["Addresses"] == []
        (snapshot,) = snapshots(world, bot)
        assert (snapshot["VolumeId"], snapshot["State"]) == (volume["VolumeId"], "completed")
        assert not world.has_token(bot)
        assert await app.get("/sd") == []
        trail = [entry["event"] for entry in await app.get(f"/audit?bot={bot}")]
        assert "retire.asked" in trail
        assert "run.retired" in trail
        assert instance_id in ended["reason"]
        assert (await app.begin_deploy(bot)).status == 202, "the name is free again"


async def test_without_a_snapshot_none_is_taken_and_an_instance_that_is_gone_is_no_hindrance(
    app: Api, world: World
) -> None:
    bot = world.name()
    await app.deployed(bot)
    world.ec2.terminate_instances(InstanceIds=[await world.instance(bot)])
    ended = await retire(app, bot)
    assert ended["status"] == "retired", ended
    assert snapshots(world, bot) == []
    assert not world.has_token(bot)


async def test_a_retirement_that_failed_is_said_and_goes_on_when_asked_again(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.break_api("TerminateInstances", "refuse", **DENIED)
    ended = await retire(app, bot)
    assert ended["status"] == "failed"
    assert "allow ec2:TerminateInstances" in ended["reason"]
    assert ended["reason"].endswith(f"DELETE /bots/{bot} goes on with it")
    (shown,) = [one for one in (await app.get("/dashboard"))["registry"] if one["bot"] == bot]
    assert shown["state"] == "quarantined"
    assert await app.alert(firing(bot)) == [], "nobody starts again what is being retired"
    assert (await retire(app, bot))["status"] == "retired"
    assert await world.actions(bot) == ["run", "stop", "terminate"]


async def test_a_bot_in_other_hands_is_not_retired(app: Api, world: World) -> None:
    bot = world.name()
    await world.cloud.break_api("RunInstances", "delay", seconds=1)
    began = await app.begin_deploy(bot)
    answer = await app.call("DELETE", f"/bots/{bot}")
    assert (answer.status, answer.field) == (409, "bot")
    await app.until_ended(f"/deploy/{began.body['deploymentId']}")
    assert (await app.call("DELETE", "/bots/nobody")).status == 404
    assert (await app.call("DELETE", f"/bots/{bot}?snapshot=perhaps")).field == "snapshot"


@pytest.mark.parametrize("step", ["stopped", "snapshot", "snapshot complete", "terminated", "token deleted"])
async def test_killed_at_a_step_a_retirement_goes_on(
    run_remediator: RunRemediator, world: World, step: str
) -> None:
    bot = world.name()
    async with run_remediator(world.cloud, elastic_ip=True) as remediator:
        app = remediator.api
        await app.deployed(bot)
        began = await app.call("DELETE", f"/bots/{bot}?snapshot=true")
        await remediator.until_step(began.body["deploymentId"], step)
        await remediator.kill9()
        await remediator.start()
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "retired", ended
    assert await world.actions(bot) == ["run", "stop", "terminate"]
    assert len(snapshots(world, bot)) == 1
    assert world.ec2.describe_addresses()["Addresses"] == []
    assert not world.has_token(bot)


# orphans


@pytest.fixture
async def orphaned(world: World) -> AsyncIterator[dict[str, str]]:
    """An instance, a volume and an address with our tag that no bot claims."""
    tags: Any = [MANAGED, {"Key": "bot-orchestrator:bot", "Value": "long-gone"}]
    instance = run_by_hand(world, "long-gone", **{tag["Key"]: tag["Value"] for tag in tags})
    volume = world.ec2.create_volume(
        AvailabilityZone="us-west-1a", Size=8, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )
    address = world.ec2.allocate_address(
        Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}]
    )
    ids = {"instance": instance, "volume": volume["VolumeId"], "address": address["AllocationId"]}
    yield ids
    left = world.ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [ids["volume"]]}])["Volumes"]
    if left:
        world.ec2.delete_volume(VolumeId=ids["volume"])


async def test_orphans_are_listed_and_reaped_by_name_and_after_the_grace(
    run_app: RunApp, world: World, orphaned: dict[str, str]
) -> None:
    bot = world.name()
    async with run_app(orphan_grace=3600, elastic_ip=True) as app:
        await app.deployed(bot)
        found = await app.get("/orphans")
        assert {one["kind"]: one["id"] for one in found} == orphaned
        assert {one["bot"] for one in found} == {"long-gone"}
        assert await app.metric("bot_orphan_instances") == 1
        ids = {"instanceIds": [orphaned["instance"]], "volumeIds": [orphaned["volume"]]}
        early = await app.post("/orphans/reap", {**ids, "apply": True})
        assert [item["verdict"] for item in early.body["plan"]] == ["keep", "keep"]
    async with run_app(orphan_grace=0, elastic_ip=True) as app:
        ours = await world.instance(bot)
        all_ids = {"instanceIds": [orphaned["instance"], ours, "i-00000000000000000"]}
        all_ids |= {"volumeIds": [orphaned["volume"]], "allocationIds": [orphaned["address"]]}
        plan = (await app.post("/orphans/reap", all_ids)).body
        verdicts = [item["verdict"] for item in plan["plan"]]
        assert (plan["applied"], verdicts) == (False, ["reap", "keep", "keep", "reap", "reap"])
        assert len(await app.get("/orphans")) == 3, "it was a dry run"
        done = (await app.post("/orphans/reap", {**all_ids, "apply": True, "by": "ann"})).body["plan"]
        assert [item["verdict"] for item in done] == ["reaped", "keep", "keep", "reaped", "reaped"]
        assert await app.get("/orphans") == []
        assert await app.metric("bot_orphan_instances") == 0
        assert await world.live(bot) == [ours]
        reaped = [one for one in await app.get("/audit") if one["event"] == "orphan.reap"]
        assert {one["detail"]["id"] for one in reaped} == set(orphaned.values())
        assert {one["actor"] for one in reaped} == {"ann"}


async def test_an_orphan_that_cannot_be_ended_says_why(
    run_app: RunApp, world: World, orphaned: dict[str, str]
) -> None:
    async with run_app(orphan_grace=0) as app:
        await world.cloud.break_api("TerminateInstances", "refuse", **DENIED)
        answer = await app.post("/orphans/reap", {"instanceIds": [orphaned["instance"]], "apply": True})
        (item,) = answer.body["plan"]
        assert item["verdict"] == "failed"
        assert "allow ec2:TerminateInstances" in item["why"]
