"""Files of bots, from template to instance: kept before they are needed, versioned, diffed, brought back."""

from __future__ import annotations

import base64
import random
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

import templates
from remediator.aws.user_data import unpack
from remediator.provisioning.files_keeper import check_sizes
from remediator.settings import read_settings
from templates import BUNDLED, TemplateError
from tests.remediator.conftest import MAKE_CLIENT, REGION, Api, World
from tests.templates.test_files import written

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
FIRST = "# Who you are\n\nA friend.\nShort.\n"
SECOND = "# Who you are\n\nA friend.\nBrief.\nKind.\n"


@pytest.fixture
def types(tmp_path: Path) -> Path:
    folder = tmp_path / "types"
    folder.mkdir()
    shutil.copy(BUNDLED / "support.yaml", folder)
    return folder


def persona(types: Path, text: str, **more: str) -> None:
    """Let bots of the type have these files from the next start of the remediator on."""
    contents = {"workspace/SOUL.md": text, **{f"workspace/{name}.md": value for name, value in more.items()}}
    shutil.rmtree(types / "support", ignore_errors=True)
    written(types / "support", {name: value.encode() for name, value in contents.items()})


def archive_of(types: Path) -> str:
    (sha256,) = templates.load(types).archives
    return sha256


async def told(app: Api, world: World, bot: str) -> str:
    """Return where the instance that the bot is was told that its files are."""
    (labels,) = [group["labels"] for group in await app.get("/sd") if group["labels"]["bot"] == bot]
    answer = world.ec2.describe_instance_attribute(InstanceId=labels["instance_id"], Attribute="userData")
    document = yaml.safe_load(unpack(base64.b64decode(answer["UserData"].get("Value", ""))))
    (text,) = [file["content"] for file in document["write_files"] if file["path"] == "/etc/bot/instance.env"]
    variables: dict[str, str] = dict(line.split("=", 1) for line in text.splitlines())
    return variables["FILES"]


def kept(world: World) -> set[str]:
    return {
        one["Name"]
        for one in world.ssm.describe_parameters()["Parameters"]
        if one["Name"].startswith("/files/")
    }


async def ended(app: Api, answer: Any) -> None:
    view = await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
    assert view["status"] == "deployed", view


async def test_files_are_versioned_diffed_and_brought_back_like_the_rest(
    run_app: RunApp, world: World, types: Path
) -> None:
    bot = world.name()
    persona(types, FIRST, AGENTS="one\ntwo\n")
    first = archive_of(types)
    async with run_app(templates_dir=types) as app:
        await app.deployed(bot)
        assert await told(app, world, bot) == f"/files/{first}"
        assert kept(world) == {f"/files/{first}"}
    persona(types, SECOND, TOOLS="new\n")
    second = archive_of(types)
    async with run_app(templates_dir=types) as app:
        answer = await app.post(f"/bots/{bot}/config", {"overrides": {}, "reason": "kinder"})
        assert {change["path"] for change in answer.body["diff"]} == {
            "files.sha256",
            *(f"files.names.workspace/{name}.md" for name in ("SOUL", "AGENTS", "TOOLS")),
        }
        assert kept(world) == {f"/files/{first}", f"/files/{second}"}, "before any instance needs them"
        text = (await app.call("GET", f"/bots/{bot}/diff", headers={"Accept": "text/plain"})).body
        assert [line for line in str(text).splitlines() if "workspace" in line] == [
            "- files.workspace/AGENTS.md: +0 -2",
            "~ files.workspace/SOUL.md: +2 -1",
            "+ files.workspace/TOOLS.md: +1 -0",
        ]
        await ended(app, await app.post(f"/bots/{bot}/redeploy", {"reason": "kinder"}))
    persona(types, "another one altogether")
    async with run_app(templates_dir=types) as app:
        assert await told(app, world, bot) == f"/files/{second}"
        await ended(app, await app.post(f"/bots/{bot}/redeploy", {"reason": "a newer image"}))
        assert await told(app, world, bot) == f"/files/{second}", "a redeploy keeps what the version has"
        await ended(app, await app.post(f"/bots/{bot}/rollback", {"reason": "too kind", "version": 1}))
        assert await told(app, world, bot) == f"/files/{first}", "though no template has it any more"
        (change,) = [
            change
            for change in (await app.get(f"/bots/{bot}/diff?from=2&to=3"))["diff"]
            if change["path"].endswith("SOUL.md")
        ]
        assert (change["added"], change["removed"]) == (1, 2)


async def test_with_a_bucket_they_go_there_and_older_ones_are_copied(
    run_app: RunApp, world: World, types: Path
) -> None:
    bot, bucket = world.name(), "bot-files-fleet"
    session = boto3.session.Session("sandbox", "sandbox", region_name=REGION)
    s3 = MAKE_CLIENT(session, "s3", endpoint_url=world.cloud.endpoint_url)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    persona(types, FIRST)
    first = archive_of(types)
    async with run_app(templates_dir=types) as app:
        await app.deployed(bot)
    persona(types, SECOND)
    async with run_app(templates_dir=types, files_bucket=f"{bucket}/types") as app:
        await ended(app, await app.post(f"/bots/{bot}/redeploy", {"reason": "a bucket"}))
        assert await told(app, world, bot) == f"s3://{bucket}/types/{first}.tar.gz"
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    assert [one["Key"] for one in found] == [f"types/{first}.tar.gz"]


async def test_files_that_cannot_be_kept_make_no_version(run_app: RunApp, world: World, types: Path) -> None:
    bot = world.name()
    persona(types, FIRST)
    async with run_app(templates_dir=types) as app:
        await app.deployed(bot)
    persona(types, SECOND)
    async with run_app(templates_dir=types) as app:
        await world.cloud.break_api("PutParameter", "refuse", code="AccessDeniedException")
        change = {"overrides": {}, "reason": "kinder"}
        answer = await app.post(f"/bots/{bot}/config", change)
        assert (answer.status, answer.field) == (502, "bot"), answer
        assert "ssm:PutParameter" in answer.body["error"]["remedy"]
        assert len(await app.get(f"/bots/{bot}/versions")) == 1
        assert (await app.post(f"/bots/{bot}/config", change)).body["version"] == 2


async def test_files_that_nobody_has_any_more_launch_nothing(
    run_app: RunApp, world: World, types: Path
) -> None:
    """An instance would wait for them for ever. The bot stays where it is."""
    bot = world.name()
    persona(types, FIRST)
    async with run_app(templates_dir=types) as app:
        await app.deployed(bot)
        before = await world.live(bot)
    world.ssm.delete_parameter(Name=f"/files/{archive_of(types)}")
    persona(types, SECOND)
    async with run_app(templates_dir=types) as app:
        answer = await app.post(f"/bots/{bot}/redeploy", {"reason": "again"})
        view = await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
        assert view["status"] == "failed"
        assert "are not kept any more" in str(view)
    assert await world.live(bot) == before


@pytest.mark.parametrize("bucket", ["", "bot-files-example"])
def test_files_too_large_for_parameter_store_ask_for_a_bucket_at_the_start(types: Path, bucket: str) -> None:
    written(types / "support", {"workspace/random.bin": random.Random(1).randbytes(6200)})
    loaded, settings = templates.load(types), read_settings(files_bucket=bucket)
    if bucket:
        check_sizes(loaded, settings)
        return
    with pytest.raises(TemplateError, match=r"support/: its files have 6\d\d\d bytes.*FILES_BUCKET"):
        check_sizes(loaded, settings)
