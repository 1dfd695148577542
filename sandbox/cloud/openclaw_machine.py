"""A machine whose bot is the real one: OpenClaw's gateway, with the files that the user data writes.

They lie in `root/` of the machine's home, as on an instance's disk; the unit's environment, the plugin and
the script that fetches the secrets are those of the user data. What differs is what loopback asks for: the
gateway listens on 127.0.0.1 alone, so each bot needs a port of its own, and it is told where Telegram and
the provider of models are. A machine has no kernel of its own: `boot_id` is this computer's, and neither a
reboot nor a redeploy can be proved. It may stand by, but is not activated.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.cloud.faults import Fault, Start
from sandbox.cloud.machines import Machine, Machines
from sandbox.process.openclaw import OpenClaw
from sandbox.process.processes import Process

ADDRESS: Final = "127.0.0.1"
RESTART_SECONDS: Final = 5.0  # RestartSec= of the unit
WATCH_SECONDS: Final = 0.2
STOP_SECONDS: Final = 10.0  # between SIGTERM and SIGKILL; the unit's own 45 are for a turn under way
SECRETS_SECONDS: Final = 60.0
CONFIG: Final = "etc/bot/openclaw.json"
UNIT: Final = "etc/systemd/system/bot.service"
SECRETS: Final = "run/bot-secrets"
KEY: Final = {"AWS_ACCESS_KEY_ID": "sandbox", "AWS_SECRET_ACCESS_KEY": "sandbox"}
FOLDERS: Final = "/opt/bot|/run/credentials/bot.service|/etc/bot|/var/lib/bot|/usr/local/lib"


@dataclass(frozen=True, slots=True)
class Outside:
    """What a real bot needs beyond its machine: the program, and the URLs of what it talks to."""

    program: OpenClaw
    telegram: str  # Telegram's API
    models: str  # Anthropic's API

    def machine(self, instance_id: str, home: Path, files: Mapping[str, str], machines: Machines) -> Machine:
        """Make a machine that runs OpenClaw."""
        return OpenClawMachine(instance_id, home, files, machines, self)


class OpenClawMachine(Machine):
    """One instance's machine, with the real bot."""

    def __init__(
        self, instance_id: str, home: Path, files: Mapping[str, str], machines: Machines, outside: Outside
    ) -> None:
        super().__init__(instance_id, home, files, machines)
        self._outside = outside
        self._root = home / "root"
        for path, text in files.items():
            written = self._root / path.lstrip("/")
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(text)
        if self.unit is not None:
            (self._root / "var/lib/bot").mkdir(parents=True)
            (home / "instance-id").write_text(instance_id)
            config = json.loads(self._relocated((self._root / CONFIG).read_text()))
            config = adapted(config, outside) | {"logging": {"file": str(home / "openclaw.log")}}
            (self._root / CONFIG).write_text(json.dumps(config))

    def inflict(self, fault: Fault) -> None:
        """Let the bot show the fault from now on; ValueError where a real one cannot be made to."""
        if fault.kind != "hang" or fault.cured_by != "restart":
            raise ValueError("kind: a real bot can be made to hang, until it is restarted, and nothing else")
        super().inflict(fault)

    def _own_address(self) -> str:
        return ADDRESS

    def _start_bot(self, start: Start) -> None:
        """Fetch the secrets and start the gateway; where they cannot be had it is not started, as on AWS."""
        if self.fault is not None and not self.fault.survives(start):
            self.fault = None
        secrets = self._fetch_secrets()
        if secrets is None:
            return
        self.process = Process(
            self._outside.program.argv("gateway"),
            log=self._home / "bot.log",
            name=f"bot {self.bot}",
            env={**self._environment(), **secrets},
            grace=STOP_SECONDS,
        )
        self._machines.spawn(self.process)
        threading.Thread(target=self._start_again, args=(self.process,), daemon=True).start()

    def _start_again(self, process: Process) -> None:
        """Wait until the process ends; where nobody ended it, start the bot again, as the unit does."""
        while process.alive:
            time.sleep(WATCH_SECONDS)
        if self.process is process:
            time.sleep(RESTART_SECONDS)
        with self._lock:
            if self.process is process and self.online:
                self._start_bot("restart")

    def _stop_bot(self) -> None:
        self._end(Process.stop)

    def _kill_bot(self) -> None:
        self._end(Process.kill9)

    def _end(self, how: Callable[[Process], None]) -> None:
        process, self.process = self.process, None
        if process is not None:
            how(process)

    def _listens(self) -> bool:
        """Return whether it was started: for a unit of Type=exec that is all that systemctl waits for."""
        return self.process is not None and self.process.alive

    def _environment(self) -> dict[str, str]:
        """Return the environment that the unit gives the bot, and a key for its provider of models."""
        text = self._relocated((self._root / UNIT).read_text())
        lines = re.findall(r"^Environment=(.+)$", text, re.MULTILINE)
        pairs = [pair.partition("=") for line in lines for pair in line.split()]
        return {"ANTHROPIC_API_KEY": "sandbox", **{name: value for name, _, value in pairs}}

    def _fetch_secrets(self) -> dict[str, str] | None:
        """Run the instance's own script against the cloud; returns the lines of bot.env."""
        folder = self._root / SECRETS
        folder.mkdir(parents=True, exist_ok=True)
        lines = (self._root / "etc/bot/instance.env").read_text().splitlines()
        variables = dict(line.split("=", 1) for line in lines) | KEY
        variables |= {"AWS_ENDPOINT_URL": self._machines.endpoint_url, "RUNTIME_DIRECTORY": str(folder)}
        variables |= {"INSTANCE_ID_FILE": str(self._home / "instance-id"), "PATIENCE": "10", "LOOK": "1"}
        with (self._home / "bot.log").open("a") as log:
            script = [sys.executable, str(self._root / "usr/local/sbin/bot-secrets")]
            try:
                subprocess.run(
                    script, env=variables, stdout=log, stderr=log, timeout=SECRETS_SECONDS, check=True
                )
            except subprocess.SubprocessError as error:
                log.write(f"bot-secrets: {error}\n")
                return None
        lines = (folder / "bot.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _relocated(self, text: str) -> str:
        """Return the text with the folders of an instance where they are here."""

        def here(match: re.Match[str]) -> str:
            if match[0] == "/opt/bot":
                return str(self._outside.program.home)
            if match[0].startswith("/run/credentials"):
                return str(self._root / SECRETS)
            return f"{self._root}{match[0]}"

        return re.sub(rf"(?<![\w./-])(?:{FOLDERS})(?![\w-])", here, text)


def adapted(config: dict[str, Any], outside: Outside) -> dict[str, Any]:
    """Return OpenClaw's configuration for loopback: who may hear it, and whom it asks."""
    telegram = {"dmPolicy": "open", **config["channels"]["telegram"], "apiRoot": outside.telegram}
    if telegram["dmPolicy"] == "open":
        telegram.setdefault("allowFrom", ["*"])
    models = config.get("models", {})
    anthropic = {"baseUrl": outside.models, "api": "anthropic-messages", "models": []}
    return {
        **config,
        "gateway": {**config["gateway"], "bind": "loopback"},
        "channels": {**config["channels"], "telegram": telegram},
        "models": {**models, "providers": {**models.get("providers", {}), "anthropic": anthropic}},
    }
