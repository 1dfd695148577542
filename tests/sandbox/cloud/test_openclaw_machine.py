"""A machine of the real bot hands it what an instance would; here a script stands for Node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from remediator.aws.user_data import unpack
from remediator.configuration.rendering import render
from remediator.provisioning.cloudinit import user_data
from sandbox.cloud import openclaw_machine
from sandbox.cloud.client import run_cloud
from sandbox.cloud.faults import Fault
from sandbox.cloud.machines import Machine, Machines
from sandbox.cloud.openclaw_machine import Outside, adapted
from sandbox.process.openclaw import OpenClaw
from sandbox.process.processes import state_of
from sandbox.process.waiting import wait_until
from templates import load

PARAMETER = "/bots/here/ada/telegram-token"
TELEGRAM, MODELS = "http://127.0.0.1:1", "http://127.0.0.1:2"
NODE = """#!/bin/sh
env > "$OPENCLAW_STATE_DIR/env.new" && mv "$OPENCLAW_STATE_DIR/env.new" "$OPENCLAW_STATE_DIR/env"
while :; do sleep 1; done
"""


@pytest.fixture
def program(tmp_path: Path) -> OpenClaw:
    node = tmp_path / "opt/node/bin/node"
    node.parent.mkdir(parents=True)
    node.write_text(NODE)
    node.chmod(0o755)
    return OpenClaw(tmp_path / "opt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return what is the root folder of the machine i-1."""
    return tmp_path / "state/machines/i-1/root"


@pytest_asyncio.fixture
async def machines(tmp_path: Path, program: OpenClaw) -> AsyncIterator[Machines]:
    """Machines whose secrets are in the SSM of a cloud beside them."""
    made = Machines(tmp_path / "state", 0.0, Outside(program, TELEGRAM, MODELS).machine)
    async with run_cloud(tmp_path / "cloud") as cloud:
        made.endpoint_url = cloud.endpoint_url
        await put(made, PARAMETER, "7:secret")
        try:
            yield made
        finally:
            await asyncio.to_thread(made.close)


async def put(machines: Machines, name: str, value: str) -> None:
    account = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
    ssm: Any = boto3.client("ssm", "us-west-1", endpoint_url=machines.endpoint_url, **account)  # type: ignore[call-overload]
    await asyncio.to_thread(ssm.put_parameter, Name=name, Value=value, Type="SecureString", Overwrite=True)


def created(machines: Machines, parameter: str = PARAMETER) -> Machine:
    config, config_sha = render("ada", "production", load().get("support", "production"))
    data = user_data(config, config_sha, region="us-west-1", parameter=parameter)
    return machines.create("i-1", unpack(data))


async def started(machine: Machine, root: Path) -> dict[str, str]:
    """Power it on; returns the environment of its bot."""
    machine.power_on("redeploy")
    path = root / "var/lib/bot/env"

    async def there() -> bool:
        return path.exists()

    await wait_until(there, 60, "the bot has started")
    pairs = [line.partition("=") for line in path.read_text().splitlines()]
    return {name: value for name, _, value in pairs}


async def test_it_starts_with_the_files_the_environment_and_the_secrets_of_an_instance(
    machines: Machines, program: OpenClaw, root: Path
) -> None:
    machine = created(machines)
    variables = await started(machine, root)
    config = json.loads((root / "etc/bot/openclaw.json").read_text())
    assert machine.address == "127.0.0.1"
    assert variables["OPENCLAW_CONFIG_PATH"] == f"{root}/etc/bot/openclaw.json"
    assert variables["OPENCLAW_STATE_DIR"] == f"{root}/var/lib/bot"
    assert variables["PATH"].startswith(f"{program.home}/node/bin:/usr/local/bin:")
    assert len(variables["OPENCLAW_GATEWAY_TOKEN"]) == 64
    assert "OPENCLAW_SKIP_CHANNELS" not in variables
    (plugin,) = config["plugins"]["load"]["paths"]
    assert (Path(plugin) / "index.js").exists()
    assert Path(config["channels"]["telegram"]["tokenFile"]).read_text() == "7:secret"


async def test_one_whose_token_another_has_stands_by(machines: Machines, root: Path) -> None:
    await put(machines, "/bots/here/ada/active", "i-0")
    assert (await started(created(machines), root))["OPENCLAW_SKIP_CHANNELS"] == "1"


async def test_one_without_a_token_is_not_started_and_its_restart_fails(machines: Machines) -> None:
    machine = created(machines, "/bots/here/nobody/telegram-token")
    machine.online = True
    code, _ = await asyncio.to_thread(machine.systemctl_restart)
    assert code == 1
    assert machine.process is None


async def test_one_that_hangs_is_another_process_after_a_restart(machines: Machines, root: Path) -> None:
    machine = created(machines)
    await started(machine, root)
    assert machine.process is not None
    first = machine.process.pid
    machine.inflict(Fault("hang", "restart"))
    assert first is not None
    assert state_of(first) == "T"
    assert await asyncio.to_thread(machine.systemctl_restart) == (0, "")
    assert state_of(first) in ("", "Z")
    assert machine.fault is None
    assert machine.process.pid not in (None, first)


async def test_one_that_ends_by_itself_is_started_again(
    machines: Machines, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openclaw_machine, "RESTART_SECONDS", 0.1)
    machine = created(machines)
    await started(machine, root)
    assert machine.process is not None
    first = machine.process
    first.kill9()

    async def another() -> bool:
        return machine.process not in (None, first)

    await wait_until(another, 60, "another process")


@pytest.mark.parametrize("fault", [Fault("die", "restart"), Fault("hang", "reboot")])
async def test_what_a_real_one_cannot_be_made_to_is_refused(machines: Machines, fault: Fault) -> None:
    with pytest.raises(ValueError, match="a real bot can be made to hang"):
        created(machines).inflict(fault)


def test_who_may_speak_to_it_is_left_as_it_was_said() -> None:
    outside = Outside(OpenClaw(Path("/nowhere")), TELEGRAM, MODELS)
    telegram = {"tokenFile": "t", "dmPolicy": "allowlist", "allowFrom": ["5"]}
    config = {
        "gateway": {"bind": "lan"},
        "channels": {"telegram": telegram},
        "models": {"providers": {"x": {}}},
    }
    made = adapted(config, outside)
    assert made["channels"]["telegram"] == {**telegram, "apiRoot": TELEGRAM}
    assert made["models"]["providers"]["anthropic"]["baseUrl"] == MODELS
    assert "x" in made["models"]["providers"]
    open_to_all = adapted({**config, "channels": {"telegram": {}}}, outside)["channels"]["telegram"]
    assert (open_to_all["dmPolicy"], open_to_all["allowFrom"]) == ("open", ["*"])
