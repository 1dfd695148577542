"""Who wrote to a bot and waits: listed and admitted by a document that can do nothing else."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest

from remediator.aws.aws import Aws
from remediator.aws.ssm_commands import PAIRING, Command
from remediator.errors import Refused
from remediator.model import Bot
from remediator.provisioning.cloudinit import INSTANCE
from remediator.provisioning.pairing import POLL, Pairing, approved_in, requests_in, valid_code
from tests.remediator.conftest import Api, World

UNIT = (INSTANCE / "bot.service").read_text()


async def asked(app: Api, bot: str) -> list[tuple[str, str]]:
    """Return what the trail has of pairing, with who asked."""
    entries = await app.get(f"/audit?bot={bot}&limit=100")
    return [(entry["event"], entry["actor"]) for entry in entries if entry["event"].startswith("pairing")]


async def test_who_waits_is_listed_and_admitted_by_the_code(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    assert await app.get(f"/bots/{bot}/pairing") == {"bot": bot, "dmPolicy": "pairing", "requests": []}
    code = await world.cloud.ask_to_pair(bot, 123456789, "Jo")
    (waiting,) = (await app.get(f"/bots/{bot}/pairing"))["requests"]
    assert (waiting["code"], waiting["sender"], waiting["name"]) == (code, "123456789", "Jo")
    answer = await app.post(f"/bots/{bot}/pairing", {"code": code.lower(), "by": "jo"})
    assert answer.body == {
        "bot": bot,
        "sender": "123456789",
        "keep": f"botctl config {bot} --set 'allow_from=[123456789]'",
    }
    assert (await app.get(f"/bots/{bot}/pairing"))["requests"] == []
    again = await app.post(f"/bots/{bot}/pairing", {"code": code})
    assert (again.status, again.field) == (404, "code"), "a code works once"
    here = "api:127.0.0.1"
    looks = [("pairing.list", here)] * 2
    assert await asked(app, bot) == [
        *looks,
        ("pairing.approve", "jo"),
        ("pairing.approved", "jo"),
        ("pairing.list", here),
        ("pairing.approve", here),
    ]


async def test_who_is_named_already_is_kept_in_the_command_that_makes_it_last(app: Api, world: World) -> None:
    bot = world.name()
    wish = {"botName": bot, "botType": "support", "telegramToken": "42:x", "environment": "production"}
    begun = await app.post("/deploy", {**wish, "allowFrom": [7], "dmPolicy": "pairing"})
    assert (await app.until_ended(f"/deploy/{begun.body['deploymentId']}"))["status"] == "deployed"
    answer = await app.post(f"/bots/{bot}/pairing", {"code": await world.cloud.ask_to_pair(bot, 8)})
    assert answer.body["keep"].endswith("'allow_from=[7,8]'")


@pytest.mark.parametrize("code", ["", "ABCD234", "ABCD2345X", "ABCD-345", "$(reboot", "ABCD2340", "' OR 1=1"])
async def test_what_is_no_code_never_reaches_an_instance(app: Api, code: str) -> None:
    answer = await app.post("/bots/nobody/pairing", {"code": code})
    assert (answer.status, answer.field) == (422, "code")


async def test_a_bot_that_is_not_there_is_unknown(app: Api) -> None:
    for answer in (
        await app.call("GET", "/bots/nobody/pairing"),
        await app.post("/bots/nobody/pairing", {"code": "ABCD2345"}),
    ):
        assert (answer.status, answer.field) == (404, "bot")


async def test_an_instance_that_ssm_does_not_reach_is_said_with_a_remedy(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.break_api("SendCommand", "refuse", code="InvalidInstanceId")
    answer = await app.call("GET", f"/bots/{bot}/pairing")
    assert (answer.status, answer.field) == (502, "bot")
    assert "SSM agent" in answer.body["error"]["remedy"]


def test_the_document_takes_a_code_and_nothing_else() -> None:
    document = json.loads(PAIRING.content)
    assert document["parameters"].keys() == {"code"}
    pattern = re.compile(document["parameters"]["code"]["allowedPattern"])
    for code in ("", "ABCD2345"):
        assert pattern.fullmatch(code)
    for code in ("abcd2345", "ABCD2345;", "ABCD 234", "ABCD2345\n", "$(id)234", "ABCD2340"):
        assert not pattern.fullmatch(code)
    assert PAIRING.content.count("{{") == 1
    (step,) = document["mainSteps"]
    assert step["action"] == "aws:runShellScript"
    assert step["inputs"]["runCommand"][0] == "code='{{ code }}'", "the pattern lets through no quote"


def test_the_document_runs_what_the_unit_runs_as_its_user_and_with_no_more_rights() -> None:
    command = json.loads(PAIRING.content)["mainSteps"][0]["inputs"]["runCommand"][-1]
    (program,) = re.findall(r"^ExecStart=(.+) gateway$", UNIT, re.M)
    program = re.sub(r" --\S+", "", program)  # the room that a gateway may take
    assert f' {program} pairing "$@"' in command
    properties = dict(re.findall(r"--property=(\w+)=(\S*)", command))
    own = {"ReadWritePaths", "PrivateNetwork", "OOMScoreAdjust", "RuntimeMaxSec"}
    assert own <= properties.keys()
    for name in properties.keys() - own:
        assert f"\n{name}={properties[name]}\n" in UNIT, name
    assert "bot-secrets" not in command


LISTED = """{
  "channel": "telegram",
  "requests": [
    {"id": "123456789", "code": "SC8QY8YQ", "createdAt": "2026-11-28T01:17:49.874Z",
     "lastSeenAt": "2026-11-28T01:18:00.000Z",
     "meta": {"firstName": "Jo", "lastName": "Doe", "username": "jo", "accountId": "default"}}
  ]
}
"""


def test_the_answer_of_openclaw_is_read() -> None:
    (waiting,) = requests_in("a notice\n" + LISTED)
    assert (waiting.code, waiting.sender, waiting.name) == ("SC8QY8YQ", "123456789", "Jo Doe @jo")
    assert approved_in("Approved telegram sender 123456789.\nmore\n") == "123456789"
    assert approved_in('No pending pairing request found for code "Approved telegram sender 1."') is None


@pytest.mark.parametrize(
    "stdout", ["", "{", "[]", '{"requests": 3}', '{"requests": [{}]}', '{"requests": [3]}']
)
def test_what_is_no_list_of_requests_is_refused(stdout: str) -> None:
    with pytest.raises(ValueError, match="no list of requests"):
        requests_in(stdout)


def test_a_code_is_spelt_as_openclaw_spells_it() -> None:
    assert valid_code(" sc8qy8yq\n") == "SC8QY8YQ"


class Slow:
    """An instance whose command ends at its third look, or never."""

    def __init__(self, end: Command) -> None:
        self.end, self.looks = end, 0

    async def send_pairing(self, *_: object) -> str:
        return "command-1"

    async def command(self, *_: object) -> Command:
        self.looks += 1
        return self.end if self.looks == 3 else Command("command-1", "InProgress", -1)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (Command("command-1", "Pending", -1), "did not answer within 9 s"),
        (Command("command-1", "Failed", 127, "no such file"), "exit code 127: no such file"),
        (Command("command-1", "Success", 0, "", "what?"), "ended as Success"),
    ],
)
async def test_an_instance_is_waited_for_and_then_given_up(end: Command, why: str) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pairing = Pairing(cast(Aws, Slow(end)), lambda: now, sleep, patience=9)
    config: dict[str, Any] = {"template": "support", "environment": "production"}
    config["probe"] = {"health_path": "/health", "mesh_path": "/mesh"}
    with pytest.raises(Refused, match=re.escape(why)) as refused:
        await pairing.waiting(Bot.registered("forge", config, "", overrides={}))
    assert (refused.value.kind, bool(refused.value.remedy)) == ("unavailable", True)
    assert now == (9 if end.status == "Pending" else 2 * POLL)
