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

from remediator.aws.user_data import unpack
from sandbox.process.waiting import wait_until
from sandbox.stack.telegram import Telegram
from tests.remediator.conftest import Api, Remediator, World, firing

RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]
PLANTED = "8143:AAF-planted-where-things-fail"
SHAPES = (PLANTED, base64.b64encode(PLANTED.encode()).decode(), PLANTED.replace(":", "%3A"))
QUOTING: dict[str, Any] = {"code": "ValidationException", "message": f"Value {PLANTED} is wrong"}


async def test_the_token_is_nowhere_when_things_fail(
    run_remediator: RunRemediator, world: World, telegram: Telegram, looks: list[str], tmp_path: Path
) -> None:
    well, lost, failing = world.names(3)
    channel: Any = {"telegram_api_url": telegram.url, "telegram_token": "7:people", "telegram_chat_id": "1"}
    async with run_remediator(world.cloud, log_level="debug", queue_interval=0.5, **channel) as remediator:
        api = remediator.api
        outputs: list[object] = []

        async def deploy(bot: str) -> Any:
            answer = await api.begin_deploy(bot, PLANTED)
            outputs.append([answer.body, dict(answer.headers)])
            if answer.status == 202:
                outputs.append(await api.until_ended(answer.headers["Location"]))
            return answer

        for body in malformed(well):
            answer = await api.call("POST", "/deploy", data=body)
            assert 400 <= answer.status < 500, answer
            outputs.append([answer.body, dict(answer.headers)])

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
        outputs.append(await api.until_ended(answer.headers["Location"]))

        async def notified() -> bool:
            return len(telegram.messages) >= 3

        await wait_until(notified, what="the messages")

        async def asked() -> bool:
            return PLANTED in looks

        await wait_until(asked, what="a question how many updates wait, which takes the token")
        outputs += [message.text for message in telegram.messages]
        outputs += await everything(api, well)
        outputs += launched(world, well, lost, failing)
        outputs += [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert remediator.process.pid is not None
        outputs.append(Path(f"/proc/{remediator.process.pid}/environ").read_bytes())
        outputs += files(tmp_path)  # while it runs: the write-ahead log is there
    outputs += files(tmp_path)
    for output in outputs:
        text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
        assert not [shape for shape in SHAPES if shape in text], text[:2000]
    parameter = world.ssm.get_parameter(Name=f"/bots/{well}/telegram-token", WithDecryption=True)["Parameter"]
    assert (parameter["Type"], parameter["Value"]) == ("SecureString", PLANTED), "it had really been there"


def malformed(bot: str) -> list[str]:
    """Return bodies with the token that are refused."""
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
    """Return what every GET of the API answers, of this bot where it is about one."""
    runs = (await api.get("/dashboard"))["state"]
    parameters = {
        "bot": [bot],
        "deployment_id": [run["deploymentId"] for run in runs["deployments"]],
        "id": [run["recoveryId"] for run in runs["recoveries"]],
        "version": ["1"],
    }
    answers, skipped = [], []
    for path, calls in (await api.get("/openapi.json"))["paths"].items():
        names = re.findall(r"\{(\w+)\}", path)
        if "get" not in calls:
            continue
        if any(name not in parameters for name in names):
            skipped.append(path)
            continue
        for value in parameters[names[0]] if names else [""]:
            first = {name: parameters[name][0] for name in names}
            filled = path.format(**first | dict.fromkeys(names[:1], value))
            for query in ("", "?watch=true") if path == "/deploy/{deployment_id}" else ("",):
                answer = await api.call("GET", filled + query)
                answers.append(f"{filled}{query} {answer.status} {answer.body}")
    assert skipped == ["/rollouts/{rollout_id}"], "there is no rollout here"
    assert any("?watch=true 200" in answer for answer in answers)
    return answers


def launched(world: World, *bots: str) -> list[object]:
    """Return all that EC2 knows of their instances and volumes, and the user data of each."""
    ours = [{"Name": "tag:bot-orchestrator:bot", "Values": list(bots)}]
    reservations = world.ec2.describe_instances(Filters=ours)["Reservations"]  # type: ignore[arg-type]
    descriptions: list[object] = [reservations, world.ec2.describe_volumes(Filters=ours)["Volumes"]]  # type: ignore[arg-type]
    for instance in (instance for group in reservations for instance in group["Instances"]):
        attribute = world.ec2.describe_instance_attribute(
            InstanceId=instance["InstanceId"], Attribute="userData"
        )
        if value := attribute.get("UserData", {}).get("Value"):
            descriptions.append(unpack(base64.b64decode(value)).encode())
    user_data = [text for text in descriptions if isinstance(text, bytes)]
    assert any(b"#cloud-config" in text for text in user_data)
    return descriptions


def files(folder: Path) -> list[bytes]:
    """Return the log, the database, and what SQLite keeps beside it."""
    paths = [path for path in folder.iterdir() if path.is_file() and path.name.startswith("remediator")]
    assert {path.name for path in paths} >= {"remediator.db", "remediator.log"}
    return [path.read_bytes() for path in paths]
