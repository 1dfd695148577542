"""A token is planted and searched for everywhere: it is in SSM as a SecureString, and nowhere else.

Through what goes well is test_deploy's part; here is what goes wrong, and what is done to a bot afterwards.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from sandbox.telegram import Telegram
from sandbox.waiting import wait_until
from tests.remediator.conftest import Api, Remediator, World, firing

RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]
PLANTED = "8143:AAF-planted-where-things-fail"
SHAPES = (PLANTED, base64.b64encode(PLANTED.encode()).decode(), PLANTED.replace(":", "%3A"))
QUOTING: dict[str, Any] = {"code": "ValidationException", "message": f"Value {PLANTED} is wrong"}


async def test_the_token_is_nowhere_when_things_fail(
    run_remediator: RunRemediator, world: World, telegram: Telegram, tmp_path: Path
) -> None:
    well, lost, failing = world.names(3)
    heard: Any = {"telegram_api_url": telegram.url, "telegram_token": "7:people", "telegram_chat_id": "1"}
    async with run_remediator(world.cloud, log_level="debug", **heard) as remediator:
        api = remediator.api
        said: list[object] = []

        async def deploy(bot: str) -> Any:
            answer = await api.begin_deploy(bot, PLANTED)
            said.append([answer.body, dict(answer.headers)])
            if answer.status == 202:
                said.append(await api.until_ended(answer.headers["Location"]))
            return answer

        for body in malformed(well):
            answer = await api.call("POST", "/deploy", data=body)
            assert 400 <= answer.status < 500, answer
            said.append([answer.body, dict(answer.headers)])

        await world.cloud.break_api("PutParameter", "refuse", **QUOTING, times=1)
        assert (await deploy(lost)).status == 502
        await world.cloud.break_api("PutParameter", "lose_answer")
        await deploy(lost)
        await world.cloud.break_api("RunInstances", "refuse", code="UnauthorizedOperation")
        await world.cloud.break_api("DeleteParameter", "refuse", code="AccessDeniedException")
        await deploy(failing)

        assert (await deploy(well)).status == 202
        recovered = await api.recover(well, "redeploy")
        assert recovered["status"] == "recovered", recovered
        await api.alert(firing(well, note=PLANTED[:4]))
        answer = await api.post(f"/bots/{well}/redeploy", {"reason": "again"})
        assert answer.status == 202, answer
        said.append(await api.until_ended(answer.headers["Location"]))

        async def told() -> bool:
            return len(telegram.messages) >= 3

        await wait_until(told, what="the messages")
        said += [message.text for message in telegram.messages]
        said += await everything(api, well)
        said += launched(world, well, lost, failing)
        said += [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert remediator.process.pid is not None
        said.append(Path(f"/proc/{remediator.process.pid}/environ").read_bytes())
        said += files(tmp_path)  # while it runs: the write-ahead log is there
    said += files(tmp_path)
    for place in said:
        text = place.decode(errors="replace") if isinstance(place, bytes) else str(place)
        assert not [shape for shape in SHAPES if shape in text], text[:2000]
    parameter = world.ssm.get_parameter(Name=f"/bots/{well}/telegram-token", WithDecryption=True)["Parameter"]
    assert (parameter["Type"], parameter["Value"]) == ("SecureString", PLANTED), "it had really been there"


def malformed(bot: str) -> list[str]:
    good = {"botName": bot, "botType": "support", "telegramToken": PLANTED, "environment": "staging"}
    return [
        json.dumps(good)[:-1],
        json.dumps([good]),
        json.dumps(good | {"telegramToken": {"value": PLANTED}}),
        json.dumps(good | {"environment": "moon"}),
        json.dumps(good | {"overrides": {"telegramToken": PLANTED}}),
        PLANTED,
    ]


async def everything(api: Api, bot: str) -> list[str]:
    """What every GET of the API answers, of this bot where it is about one."""
    runs = (await api.get("/dashboard"))["state"]
    known = {
        "bot": [bot],
        "deploymentId": [run["deploymentId"] for run in runs["deployments"]],
        "recoveryId": [run["recoveryId"] for run in runs["recoveries"]],
        "version": ["1"],
        "n": ["1"],
    }
    found = []
    for path, calls in (await api.get("/openapi.json"))["paths"].items():
        names = re.findall(r"\{(\w+)\}", path)
        if "get" not in calls or any(name not in known for name in names):
            continue
        for value in known[names[0]] if names else [""]:
            chosen = {name: known[name][0] for name in names} | dict.fromkeys(names[:1], value)
            filled = path.format(**chosen)
            for query in ("", "?watch=true") if path == "/deploy/{deploymentId}" else ("",):
                answer = await api.call("GET", filled + query)
                found.append(f"{filled}{query} {answer.status} {answer.body}")
    assert len(found) > 10
    return found


def launched(world: World, *bots: str) -> list[object]:
    """All that EC2 knows of their instances and volumes, and the user data of each."""
    ours = [{"Name": "tag:bot-orchestrator:bot", "Values": list(bots)}]
    reservations = world.ec2.describe_instances(Filters=ours)["Reservations"]  # type: ignore[arg-type]
    told: list[object] = [reservations, world.ec2.describe_volumes(Filters=ours)["Volumes"]]  # type: ignore[arg-type]
    for instance in (one for group in reservations for one in group["Instances"]):
        attribute = world.ec2.describe_instance_attribute(
            InstanceId=instance["InstanceId"], Attribute="userData"
        )
        if value := attribute.get("UserData", {}).get("Value"):
            told.append(base64.b64decode(value))
    assert any(isinstance(one, bytes) and b"#cloud-config" in one for one in told)
    return told


def files(folder: Path) -> list[bytes]:
    """The log, the database, and what SQLite keeps beside it."""
    found = [path for path in folder.iterdir() if path.is_file() and path.name.startswith("remediator")]
    assert {path.name for path in found} >= {"remediator.db", "remediator.log"}
    return [path.read_bytes() for path in found]
