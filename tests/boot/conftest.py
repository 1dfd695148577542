"""One machine that is booted for all tests that it survives, and machines of their own for the others."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

import templates
from exporter.probing.probe import ProbeResult, open_session, probe
from exporter.targets import Target
from remediator.aws.file_store import files_address
from remediator.configuration.rendering import files_of, render
from remediator.provisioning.cloudinit import user_data
from sandbox.process.openclaw import install
from sandbox.process.waiting import WaitError, wait_until
from tests.boot.machine import REGION, Machine, loopback_ports
from tests.boot.report import FACTS
from tests.boot.root import node_archive, pristine

FOLDER: Final = Path(__file__).parent
PORT: Final = 18790
TOKEN: Final = "42:planted-by-the-boot-test"
PARAMETERS: Final = "/bots/forge/"
# Seconds. A machine that does nothing else takes 60 and 15: these are for one that others use too.
FIRST_BOOT: Final = 600.0
START: Final = 300.0


@dataclass
class Instance:
    """A machine with a bot, and what its user data says of it."""

    machine: Machine
    config_sha: str
    key: Path
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return Target("forge", f"127.0.0.1:{self.machine.ports[PORT]}")

    async def look(self) -> ProbeResult:
        async with open_session() as session:
            return await probe(session, self.target, timeout=10)

    async def until(
        self, well: Callable[[ProbeResult], object], timeout: float = START, what: str = "a healthy bot"
    ) -> ProbeResult:
        """Give the first healthy answer that is as wanted. WaitError with the machine's journal."""
        last: list[ProbeResult] = []

        async def condition() -> ProbeResult | None:
            last[:] = [await self.look()]
            return last[0] if last[0].health.ok and well(last[0]) else None

        try:
            return await wait_until(condition, timeout, what, every=0.25)
        except WaitError as error:
            raise WaitError(f"{error}\n{last}\n{self.machine.journal()}") from None

    def put(self, **parameters: str | None) -> None:
        """Change parameters of the bot in SSM; None removes one."""
        self.parameters |= {
            PARAMETERS + name.replace("_", "-"): value or "" for name, value in parameters.items()
        }
        self.parameters = {name: value for name, value in self.parameters.items() if value}
        self.machine.put(self.parameters)

    def main_pid(self) -> int:
        return int(self.machine.show("bot.service", "MainPID")["MainPID"])


@pytest.fixture(scope="session")
def make_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Instance]]:
    """Make a machine that is prepared and off. `ssh`: it may be restarted by SSH."""
    made: list[Machine] = []

    def make(name: str, *, ssh: bool = False) -> Instance:
        folder = tmp_path_factory.mktemp(name)
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        loaded = templates.load()
        config, config_sha = render("forge", "production", loaded.get("support", "production"))
        sha256 = files_of(config) or ""
        content = user_data(
            config,
            config_sha,
            region=REGION,
            parameter=PARAMETERS + "telegram-token",
            files=files_address("", sha256),
            restart_key=key.with_suffix(".pub").read_text().strip() if ssh else None,
        )
        parameters = {
            PARAMETERS + "telegram-token": TOKEN,
            PARAMETERS + "environment": "ANTHROPIC_API_KEY=planted",
            files_address("", sha256): base64.b64encode(loaded.archives[sha256]).decode(),
        }
        machine = Machine(
            folder / "machine",
            pristine(),
            node_archive(install()),
            content,
            parameters,
            loopback_ports(PORT, 22),
        )
        made.append(machine)
        machine.prepare()
        return Instance(machine, config_sha, key, dict(parameters))

    yield make
    for machine in made:
        machine.close()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return what was seen, by name; the run's last line tells it."""
    return pytestconfig.stash.get(FACTS, {})


@pytest.fixture(scope="session")
def instance(make_instance: Callable[..., Instance]) -> Instance:
    """Switched on; whether it comes up is for the first test."""
    made = make_instance("instance", ssh=True)
    made.machine.power_on()
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder, and no other, unless `make boot` runs them: `items` are all of them."""
    reason = "an instance is booted by `make boot`, as root"
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.timeout(900))
            if "BOOT" not in os.environ:
                item.add_marker(pytest.mark.skip(reason=reason))
