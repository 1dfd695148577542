"""Every command line of the documents is run, page by page and in order, as a reader would type it.

What cannot be run here stands in NOT_RUN with the reason. A command that fails, a filter that finds nothing,
and an API that refuses fail the test.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from sandbox.process.waiting import wait_until
from sandbox.stack.stack import AWS, Stack
from tests.docs.conftest import PATIENCE, deploy
from tests.docs.pages import PAGES, Command, commands, name_of, without_comment
from tests.docs.reading import Reading, idle, read_page, run_command

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

# A pattern for the whole command, and why it is not run here.
NOT_RUN = {
    r"make .*": "tests/packaging/test_make.py runs the targets",
    r"\.ci/run": "runs these tests",
    r"\.ci/newest": "needs npm; tests/packaging/test_newest.py runs it without",
    r"pre-commit install": "changes the clone's hooks; its commands are those of make",
    r"docker compose .*": "needs Docker; tests/packaging/test_compose.py reads the file",
    r"(sudo )?(systemctl|systemd-analyze|journalctl) .*": "needs systemd, where the service or a bot runs",
    r"sudo install .*": "needs root and Alertmanager's user",
    r"aws .*": "needs an AWS account; tests/remediator/aws/test_iam.py enforces the policies",
    r"ulimit .*": "needs a right that not every machine gives",
    r"age -d FILE \| gunzip": "docs/operations/backup.md does it to its own file",
}
PAGES_NOT_RUN = {
    r"CHANGELOG\.md": "names commands in passing; each is in another page",
    r"examples/.*": "tests/docs/test_examples.py runs them",
}
# What has to be so before a command: by page and a part of the command.
Preparation = Callable[[Reading], Awaitable[None]]


async def fall_ill(reading: Reading) -> None:
    """Have the page's bot die, and wait until its recovery waits for a yes; `rec-…` is that run."""
    await reading.stack.cloud.fault(reading.bot, "die", cured_by="restart")

    async def waits() -> str | None:
        for run in (await reading.stack.call("GET", "/dashboard"))["state"]["recoveries"]:
            if run["botId"] == reading.bot and run["finishedAt"] is None:
                story = await reading.stack.call("GET", f"/recover/{run['recoveryId']}")
                if any(gate["gate"] == "mode" and gate["verdict"] != "go" for gate in story["gates"]):
                    return str(run["recoveryId"])
        return None

    reading.values["rec-…"] = await wait_until(
        waits, PATIENCE, f"the recovery of {reading.bot} waits for a yes"
    )


async def fall_ill_again(reading: Reading) -> None:
    """Wait until the last recovery has ended, and have the bot die once more."""
    await idle(reading.stack)
    await reading.stack.cloud.heal(reading.bot)
    await fall_ill(reading)


async def be_left_to_people(reading: Reading) -> None:
    """Have a recovery of the bot denied, so that it is in quarantine."""
    await fall_ill_again(reading)
    await reading.stack.call("POST", f"/recover/{reading.values['rec-…']}/deny", {"by": "jo"})
    await idle(reading.stack)
    await reading.stack.cloud.heal(reading.bot)


async def launch(reading: Reading, tags: Mapping[str, str]) -> None:
    """Start an instance with a bot that the remediator does not have; `i-0123456789abcdef0` stands for it."""
    unit = {
        "bot": "veteran",
        "port": 18790,
        "health_path": "/health",
        "mesh_path": "/mesh",
        "config_sha": "c0ffee",
    }
    written = [{"path": "/etc/bot/bot.json", "content": json.dumps(unit)}]
    request: Any = {
        "ImageId": "ami-0abc",
        "InstanceType": "t3.micro",
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": "#cloud-config\n" + yaml.safe_dump({"write_files": written}),
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}
        ],
    }
    ec2 = boto3.client(
        "ec2",
        region_name="us-west-1",
        endpoint_url=reading.stack.cloud.endpoint_url,
        aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
    )
    answer = await asyncio.to_thread(lambda: ec2.run_instances(**request))
    instance_id = answer["Instances"][0]["InstanceId"]
    reading.values["i-0123456789abcdef0"] = instance_id

    async def runs() -> bool:
        bots = await reading.stack.cloud.bots()
        return any(bot.instance_id == instance_id and bot.state == "running" and bot.pid for bot in bots)

    await wait_until(runs, PATIENCE, f"{instance_id} runs")


async def launch_a_stranger(reading: Reading) -> None:
    """Start an instance that is nobody's."""
    await launch(reading, {"Name": "veteran"})


async def launch_an_orphan(reading: Reading) -> None:
    """Start an instance with our tag that no bot and no run claims."""
    await launch(reading, {"bot-orchestrator:managed": "true", "bot-orchestrator:bot": "lost"})


async def be_paused(reading: Reading) -> None:
    """Have a person pause the bots of a template."""
    await reading.stack.call("POST", "/holds", {"scope": "template", "name": "support", "reason": "a test"})


async def be_written_to(reading: Reading) -> None:
    """Have somebody write to the bot who is not known to it; `ABCD2345` stands for the code that they get."""
    reading.values["ABCD2345"] = await reading.stack.cloud.ask_to_pair(reading.bot, 123456789, "Jo")


async def no_run(reading: Reading) -> None:
    """Wait until what an earlier command has begun has ended."""
    await idle(reading.stack)


PREPARATIONS: tuple[tuple[str, str, Preparation], ...] = (
    ("docs/api.md", "$R/recover/my-assistant", no_run),
    ("docs/api.md", "/approve", fall_ill),
    ("docs/api.md", "/cancel", fall_ill_again),
    ("docs/api.md", "/quarantine", be_left_to_people),
    ("docs/botctl.md", "botctl approve", fall_ill),
    ("docs/operations/access.md", "/config", no_run),
    ("docs/operations/access.md", "/pairing | jq", be_written_to),
    ("docs/operations/access.md", "botctl pairing approve", be_written_to),
    ("docs/operations/configuration.md", "/rollback", no_run),
    ("docs/operations/deploy.md", "$R/bots -d", launch_a_stranger),
    ("docs/operations/deploy.md", "$R/orphans |", launch_an_orphan),
    ("docs/troubleshooting.md", "botctl resume", be_paused),
    ("docs/troubleshooting.md", "botctl approve", fall_ill),
    ("docs/troubleshooting.md", "/quarantine", be_left_to_people),
    ("docs/troubleshooting.md", "botctl orphans", launch_an_orphan),
)


async def tidy(stack: Stack) -> None:
    """Leave the stack to the next page without rollouts, pauses, budgets and runs of this one."""
    for rollout in await stack.call("GET", "/rollouts"):
        if rollout["finishedAt"] is None:
            await stack.call("POST", f"/rollouts/{rollout['rolloutId']}/cancel", {"by": "the test"})
    for hold in await stack.call("GET", "/holds"):
        await stack.call("DELETE", f"/holds/{hold['id']}")
    for budget in await stack.call("GET", "/budgets"):
        await stack.call("DELETE", f"/budgets/{budget['scope']}/{budget['name']}")
    await stack.cloud.heal()
    await idle(stack)


def reason_not_to_run(command: Command) -> str:
    """Return the pattern in NOT_RUN that the command matches; empty where it is to be run."""
    text = without_comment(command.text)
    return next((pattern for pattern in NOT_RUN if re.fullmatch(pattern, text, re.DOTALL)), "")


WITH_COMMANDS = [
    page
    for page in PAGES
    if commands(page) and not any(re.fullmatch(pattern, name_of(page)) for pattern in PAGES_NOT_RUN)
]


async def prepare(reading: Reading, command: Command) -> None:
    """See to what has to be so before the command."""
    for page, part, preparation in PREPARATIONS:
        if page == command.page and part in command.text:
            await preparation(reading)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
async def test_every_command_line_of_the_page_works(
    page: Path, stack: Stack, tools: Path, tmp_path: Path
) -> None:
    lines = [line for line in commands(page) if not reason_not_to_run(line)]
    text = "\n".join(line.text for line in lines)
    bot = f"assistant-{WITH_COMMANDS.index(page)}"
    if "my-assistant" in text and not re.search(r'(botctl deploy |"botName": ")my-assistant', text):
        is_support = '"template": "support"' in text or "t3.small" in text  # a support bot has a t3.micro
        await deploy(stack, {bot: "support" if is_support else "designer"})
    wrong = []
    async with read_page(stack, page, tmp_path, tools, bot, lines) as reading:
        for line in lines:
            await prepare(reading, line)
            wrong.append(await run_command(reading, line))
    await tidy(stack)
    assert not any(wrong), "\n".join(["", *filter(None, wrong)])


async def test_what_is_not_run_is_still_written_somewhere() -> None:
    texts = [without_comment(command.text) for page in WITH_COMMANDS for command in commands(page)]
    unused = [
        pattern for pattern in NOT_RUN if not any(re.fullmatch(pattern, text, re.DOTALL) for text in texts)
    ]
    assert unused == []
