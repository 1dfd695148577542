"""Orphans: listed, and ended by name and after the grace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.remediator.conftest import Api, World
from tests.remediator.provisioning.lifecycle import DENIED, run_by_hand

RunApp = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
async def orphaned(world: World) -> AsyncIterator[dict[str, str]]:
    """Make an instance, a volume and an address with our tag that no bot claims."""
    ours = {"bot-orchestrator:managed": "true", "bot-orchestrator:bot": "long-gone"}
    instance = run_by_hand(world, "long-gone", **ours)
    tags: Any = [{"Key": key, "Value": value} for key, value in ours.items()]
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
        orphans = await app.get("/orphans")
        assert {orphan["kind"]: orphan["id"] for orphan in orphans} == orphaned
        assert {orphan["bot"] for orphan in orphans} == {"long-gone"}
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
        reaped = [entry for entry in await app.get("/audit") if entry["event"] == "orphan.reap"]
        assert {entry["detail"]["id"] for entry in reaped} == set(orphaned.values())
        assert {entry["actor"] for entry in reaped} == {"ann"}


async def test_an_orphan_that_cannot_be_ended_says_why(
    run_app: RunApp, world: World, orphaned: dict[str, str]
) -> None:
    async with run_app(orphan_grace=0) as app:
        await world.cloud.break_api("TerminateInstances", "refuse", **DENIED)
        answer = await app.post("/orphans/reap", {"instanceIds": [orphaned["instance"]], "apply": True})
        (item,) = answer.body["plan"]
        assert item["verdict"] == "failed"
        assert "allow ec2:TerminateInstances" in item["why"]
