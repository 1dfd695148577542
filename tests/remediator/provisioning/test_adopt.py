"""Adoptions: an instance that runs a bot already becomes one of ours."""

import errno

import pytest

from exporter.probing.probe import Session
from remediator.errors import Refused
from remediator.provisioning.adoption_check import require_architecture
from tests.remediator.conftest import Api, World, firing
from tests.remediator.provisioning.lifecycle import DENIED, adopt, run_by_hand, tags_of, until_up


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
    (target,) = [group for group in await app.get("/sd") if group["labels"]["bot"] == bot]
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
    for bot, id_, status, field, message in (
        (ours, instance_id, 409, "botName", "exists already"),
        (theirs, await world.instance(ours), 409, "instanceId", f"the bot {ours!r}'s"),
        (theirs, "i-00000000000000000", 422, "instanceId", "there is no"),
        (theirs, "everything", 422, "instanceId", "match"),
        (dead, dead_id, 422, "instanceId", "no healthy answer at"),
    ):
        answer = await adopt(app, bot, id_)
        assert (answer.status, answer.field) == (status, field), answer
        assert message in answer.body["error"]["message"]
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


async def test_an_adoption_that_cannot_look_says_that_the_fault_is_ours(
    app: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = world.name()
    instance_id = run_by_hand(world, bot)
    await until_up(world, instance_id)

    async def no_descriptor(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(Session, "connect", no_descriptor)
    answer = await adopt(app, bot, instance_id)
    assert (answer.status, answer.field) == (502, "instanceId"), answer
    assert "not the bot's" in answer.body["error"]["remedy"]
    assert "bot-orchestrator:managed" not in tags_of(world, instance_id)


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


@pytest.mark.parametrize(
    ("real", "declared"), [("t3.micro", "m7i.large"), ("t4g.small", "t4g.micro"), ("", "t3.micro")]
)
def test_an_instance_of_the_same_architecture_may_be_adopted(real: str, declared: str) -> None:
    require_architecture(real, declared)


@pytest.mark.parametrize(("real", "declared"), [("t3.micro", "t4g.micro"), ("m7g.large", "t3.small")])
def test_an_instance_of_another_architecture_is_not_adopted(real: str, declared: str) -> None:
    with pytest.raises(Refused) as refused:
        require_architecture(real, declared)
    assert (refused.value.field, real in refused.value.remedy) == ("instanceId", True)
