"""Run Command with real exit codes, which moto has not. Documents and parameters are moto's own."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ssm.models import ssm_backends
from werkzeug import Response

from sandbox.cloud.instances import find_instance
from sandbox.cloud.machines import Machine, Machines
from sandbox.cloud.protocol import AwsError, Call, Forward, json_response

RESET_FAILED = "systemctl reset-failed bot.service"  # these machines count no failures
RESTARTS = ("systemctl restart bot.service", "systemctl restart bot")
COMMAND_NOT_FOUND = 127
OPENCLAW: Final = "/openclaw.mjs"
# What a script of ours calls: systemd-run says what it would run, a word a line, for the machine to do.
SHIMS: Final = {
    "systemctl": "#!/bin/sh\necho HOME=/var/lib/bot OPENCLAW_CONFIG_READONLY=1\n",
    "systemd-run": "#!/bin/sh\nprintf '%s\\n' \"$@\"\n",
}
CANONICAL = "/aws/service/canonical/ubuntu/server/"
UBUNTU_IMAGE = "ami-1e749f67"  # one that moto's DescribeImages knows


@dataclass
class Invocation:
    """A command on one instance. `code` is -1 until it ends, as in AWS."""

    status: str = "Pending"
    code: int = -1
    stdout: str = ""
    stderr: str = ""
    started_at: float = 0.0


@dataclass
class Command:
    """A command sent to some instances."""

    region: str
    document: str
    comment: str
    timeout: int
    lines: list[str]
    invocations: dict[str, Invocation]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: float = field(default_factory=time.time)

    @property
    def status(self) -> str:
        """Return the worst status of its invocations."""
        states = {invocation.status for invocation in self.invocations.values()}
        return next((s for s in ("Pending", "InProgress", "Failed") if s in states), "Success")

    def describe(self) -> dict[str, Any]:
        """Return the command as SSM's API does."""
        ended = [i for i in self.invocations.values() if i.status in ("Success", "Failed")]
        return {
            "CommandId": self.id,
            "DocumentName": self.document,
            "Comment": self.comment,
            "RequestedDateTime": self.at,
            "ExpiresAfter": self.at + self.timeout,
            "TimeoutSeconds": self.timeout,
            "InstanceIds": list(self.invocations),
            "Status": self.status,
            "StatusDetails": self.status,
            "TargetCount": len(self.invocations),
            "CompletedCount": len(ended),
            "ErrorCount": sum(i.status == "Failed" for i in ended),
        }


def get_parameter(call: Call, forward: Forward) -> Response:
    """Answer Canonical's public parameters, which moto has not: the image id of the current Ubuntu."""
    name = str(call.params.get("Name", ""))
    if not name.startswith(CANONICAL):
        return forward(call)
    parameter = {"Name": name, "Type": "String", "DataType": "aws:ec2:image", "Version": 1}
    return json_response({"Parameter": {**parameter, "Value": UBUNTU_IMAGE}})


class RunCommand:
    """The actions of Systems Manager that touch a machine."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._commands: dict[str, Command] = {}

    def send_command(self, call: Call, _: Forward) -> Response:
        document = call.params["DocumentName"]
        stored = ssm_backends[DEFAULT_ACCOUNT_ID][call.region]._documents.get(document)
        if stored is None:
            raise AwsError("InvalidDocument", f"Document with name {document} does not exist.")
        targets = [self._online(call.region, i) for i in call.params.get("InstanceIds", [])]
        if not targets:
            raise AwsError("InvalidInstanceId", "")
        command = Command(
            region=call.region,
            document=document,
            comment=call.params.get("Comment", ""),
            timeout=int(call.params.get("TimeoutSeconds", 3600)),
            lines=lines_of(stored.find(None, None).content_json, call.params.get("Parameters") or {}),
            invocations={machine.instance_id: Invocation() for machine in targets},
        )
        self._commands[command.id] = command
        answer = json_response({"Command": command.describe()})
        for machine in targets:
            threading.Thread(target=run, args=(command, machine), daemon=True).start()
        return answer

    def get_command_invocation(self, call: Call, _: Forward) -> Response:
        command = self._commands.get(call.params["CommandId"])
        invocation = command.invocations.get(call.params["InstanceId"]) if command else None
        if command is None or invocation is None:
            raise AwsError("InvocationDoesNotExist", "")
        return json_response(
            {
                "CommandId": command.id,
                "InstanceId": call.params["InstanceId"],
                "Comment": command.comment,
                "DocumentName": command.document,
                "PluginName": "aws:runShellScript",
                "ResponseCode": invocation.code,
                "Status": invocation.status,
                "StatusDetails": invocation.status,
                "StandardOutputContent": invocation.stdout,
                "StandardErrorContent": invocation.stderr,
            }
        )

    def list_commands(self, call: Call, _: Forward) -> Response:
        command_id, instance_id = call.params.get("CommandId"), call.params.get("InstanceId")
        commands = [
            command.describe()
            for command in reversed(self._commands.values())
            if command.region == call.region
            and command_id in (None, command.id)
            and (instance_id is None or instance_id in command.invocations)
        ]
        return json_response({"Commands": commands})

    def describe_instance_information(self, call: Call, _: Forward) -> Response:
        filters = [(f["Key"], f["Values"]) for f in call.params.get("Filters", [])]
        filters += [(f["key"], f["valueSet"]) for f in call.params.get("InstanceInformationFilterList", [])]
        entries = [
            entry
            for machine in self._machines.all()
            if (entry := information(call.region, machine)) is not None
            and all(entry[key.removesuffix("s")] in values for key, values in filters)
        ]
        return json_response({"InstanceInformationList": entries})

    def _online(self, region: str, instance_id: str) -> Machine:
        machine = self._machines.get(instance_id)
        if machine is None or not machine.online or find_instance(region, instance_id) is None:
            raise AwsError("InvalidInstanceId", f"Instances [[{instance_id}]] not in a valid state.")
        return machine


def information(region: str, machine: Machine) -> dict[str, Any] | None:
    """Return the agent's last report; None where there was none, or the instance is gone."""
    instance = find_instance(region, machine.instance_id)
    if instance is None or instance.state == "terminated" or not machine.boot_id:
        return None
    return {
        "InstanceId": machine.instance_id,
        "PingStatus": "Online" if machine.online else "ConnectionLost",
        "LastPingDateTime": time.time(),
        "AgentVersion": "3.3.0.0",
        "PlatformType": "Linux",
        "ResourceType": "EC2Instance",
        "IPAddress": machine.address,
    }


def lines_of(document: dict[str, Any], parameters: Mapping[str, list[str]]) -> list[str]:
    """Return the shell script of a schema 2.2 document, line by line, with its parameters put in."""
    declared = document.get("parameters") or {}
    values = {name: parameters.get(name, [of.get("default", "")])[0] for name, of in declared.items()}
    for name, value in values.items():
        if not re.search(declared[name].get("allowedPattern", ""), value):
            raise AwsError("InvalidParameters", f"Parameter {name} does not match its allowedPattern.")
    if unknown := parameters.keys() - declared.keys():
        raise AwsError("InvalidParameters", f"The document has no parameter {min(unknown)}.")
    lines = [
        str(line)
        for step in document.get("mainSteps") or []
        if step.get("action") == "aws:runShellScript"
        for line in step["inputs"]["runCommand"]
    ]
    return [re.sub(r"{{ ?(\w+) ?}}", lambda name: values[name[1]], line) for line in lines]


def run(command: Command, machine: Machine) -> None:
    """Run the script on a machine; its exit code is its last line's."""
    invocation = command.invocations[machine.instance_id]
    invocation.status = "InProgress"
    if any(OPENCLAW in line for line in command.lines):
        code, invocation.stdout, invocation.stderr = machine.openclaw_pairing(words_of(command.lines))
    else:
        code, invocation.stderr = systemctl(command.lines, machine)
    invocation.code = code
    invocation.status = "Success" if code == 0 else "Failed"


def systemctl(lines: list[str], machine: Machine) -> tuple[int, str]:
    """Run a script that restarts; return its exit code and its standard error."""
    code, errors = 0, []
    for line in lines:
        if line.strip() == RESET_FAILED:
            code, error = 0, ""
        elif line.strip() in RESTARTS:
            code, error = machine.systemctl_restart()
        else:
            code, error = COMMAND_NOT_FOUND, f"sh: {line}: the sandbox's machines only know systemctl"
        errors += [error] if error else []
    return code, "\n".join(errors)


def words_of(lines: list[str]) -> list[str]:
    """Run a script that runs `openclaw pairing` by a real shell; return the words after `pairing`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in SHIMS.items():
            shim = Path(folder) / name
            shim.write_text(text)
            shim.chmod(0o755)
        argv = ["/bin/sh", "-c", "\n".join(lines)]
        environment = {"PATH": f"{folder}:/usr/bin:/bin"}
        result = subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=30
        )
    words = result.stdout.splitlines()
    return words[words.index("pairing") + 1 :] if "pairing" in words else [result.stderr]
