"""A page's command lines, run one after another as a reader would type them, against a running stack."""

import asyncio
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sandbox.process.processes import free_port
from sandbox.process.waiting import WaitError, wait_until
from sandbox.stack.stack import AWS, Stack
from tests.docs.conftest import FIRST, PATIENCE
from tests.docs.pages import ROOT, Command, commands, files, without_comment
from tests.docs.shell import Result, Shell, run_shell

# Commands that are typed otherwise here: a pattern, what stands in its place, and why.
TYPED = (
    (
        r"(deploy \S+ --type \S+)$",
        r"\1 --telegram-token-file telegram-token",
        "asks for the token on a terminal",
    ),
    (r"(rollout start .*)$", r"\1 --yes", "asks for a yes on a terminal"),
    (r"range\(50_000\)", "range(100)", "fifty thousand bots take a core for nothing"),
    (r"botctl COMMAND ", "botctl deploy ", "stands for any command"),
    (
        r"python -m dashboards",
        f"(cd {ROOT} && python -m dashboards --check)",
        "would write into the work tree",
    ),
)
# Commands that are refused, as the page says.
REFUSED = r"curl .*Host: bots\.example\.org.*"
DOCUMENTED_PORTS = re.compile(r"(?<=:)(9090|9093|9817|9818|9819|19000)\b")


@dataclass
class Reading:
    """A page as it is read: its shell, what it has printed, and what its placeholders stand for."""

    stack: Stack
    page: Path
    folder: Path
    shell: Shell
    bot: str  # the page's own, for `my-assistant`
    ports: dict[str, int]
    printed: str = ""
    values: dict[str, str] = field(default_factory=dict)  # by placeholder
    exporters: dict[str, str] = field(default_factory=dict)  # the process id by the port

    def filled(self, text: str) -> str:
        """Return the command with names, ports and placeholders that mean something here."""
        text = text.replace("my-assistant", self.bot)
        text = re.sub(r"\bNAME\b", FIRST, text)
        for placeholder, value in self.values.items():
            text = text.replace(placeholder, value)
        text = DOCUMENTED_PORTS.sub(lambda match: str(self.ports[match[1]]), text)
        return re.sub(r"\b([a-z]+-|age1)…", self._last_printed, text)

    def _last_printed(self, placeholder: re.Match[str]) -> str:
        """Return what was printed last and begins as the placeholder does."""
        texts = re.findall(rf"\b{placeholder[1]}[0-9a-z][0-9A-Za-z-]*", self.printed)
        return texts[-1] if texts else placeholder[0]


async def idle(stack: Stack) -> None:
    """Wait until nothing is under way: no deployment, no recovery."""

    async def nothing() -> bool:
        state = (await stack.call("GET", "/dashboard"))["state"]
        return all(run["finishedAt"] for run in [*state["deployments"], *state["recoveries"]])

    await wait_until(nothing, PATIENCE, "nothing is under way")


def as_typed(text: str) -> str:
    """Return the command as it is typed here, with an exporter in the background, on a clock of its own."""
    text = without_comment(text)
    for pattern, replacement, _ in TYPED:
        text = re.sub(pattern, replacement, text)
    if starts_exporter(text):
        if "--web.listen-address" not in text:
            text = text.replace("--targets.file", "--web.listen-address 127.0.0.1:9817 --targets.file")
        text = text.removesuffix("&").rstrip() + " --probe.interval 1s &"
    return text


def starts_exporter(text: str) -> bool:
    """Tell whether the command is an exporter that runs on."""
    return "--targets.file" in text


def finds_nothing(command: str, result: Result) -> bool:
    """Tell whether a jq of the command printed nothing, or a null among other things."""
    return "| jq" in command and ("null" in result.stdout.splitlines() or not result.stdout.strip())


async def listens(port: int) -> bool:
    """Tell whether somebody accepts connections on that port of loopback."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def run_command(reading: Reading, command: Command) -> str:
    """Run a command; return what is wrong with it, or nothing."""
    text = reading.filled(as_typed(command.text))
    if "…" in text:
        return f"{command}\n    a placeholder that nothing fills: {text}"

    if starts_exporter(text):
        await start_exporter(reading, text)
        return ""
    result = Result(0, "", "")

    async def ends_well() -> Result | None:
        nonlocal result
        result = await reading.shell.run(text)
        if re.match(REFUSED, text):
            return result if result.code and not finds_nothing(text, result) else None
        return None if result.code or finds_nothing(text, result) else result

    # An exporter has something to say once it has probed.
    again = PATIENCE if re.match(r"curl .*98\d\d", without_comment(command.text)) else 0
    try:
        await wait_until(ends_well, again, every=0.2)
    except WaitError:
        return f"{command}\n    ran as: {text}\n    exit code {result.code}\n{result.stdout}{result.stderr}"
    reading.printed += result.stdout + result.stderr
    return ""


async def start_exporter(reading: Reading, text: str) -> None:
    """Start an exporter in the place of an earlier one on its port, and wait until it listens."""
    match = re.search(r"--web.listen-address 127.0.0.1:(\d+)", text)
    assert match is not None
    port = match[1]
    if port in reading.exporters:
        await reading.shell.run(f"kill {reading.exporters[port]}; wait {reading.exporters[port]}")
    await reading.shell.run(text)
    reading.exporters[port] = (await reading.shell.run("echo $!")).stdout.strip()
    await wait_until(lambda: listens(int(port)), PATIENCE, text)


def ports(stack: Stack, lines: Iterable[Command]) -> dict[str, int]:
    """Return the port for each documented one: the stack's, or a free one where the page starts exporters."""
    urls = {
        "19000": stack.remediator_url,
        "9090": stack.prometheus_url,
        "9093": stack.alertmanager_url,
        "9817": stack.exporter_url,
    }
    numbers = {port: urlsplit(url).port or 0 for port, url in urls.items()}
    numbers |= {port: free_port() for port in ("9818", "9819")}
    if any(starts_exporter(line.text) for line in lines):
        numbers["9817"] = free_port()
    return numbers


def environment(stack: Stack, folder: Path, tools: Path) -> dict[str, str]:
    """Return what a shell on the machine of the service has in its environment."""
    return {
        **AWS,
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "COLUMNS": "200",  # tables are not broken within a word
        "BOTCTL_URL": stack.remediator_url,
        "BOTCTL_TOKEN_FILE": str(folder / "remediator-token"),
        "BOT_REMEDIATOR_AWS_ENDPOINT_URL": stack.cloud.endpoint_url,
        "BOT_REMEDIATOR_TOKEN_FILE": str(folder / "remediator-token"),
    }


async def lay_out(stack: Stack, page: Path, folder: Path) -> None:
    """Put into the folder what a reader has: the token, a copy of the state, rules, lists of bots."""
    (folder / "remediator-token").write_text(stack.token)
    (folder / "telegram-token").write_text("1:x")
    (folder / ".venv").symlink_to(sys.prefix)
    for rules in (ROOT / "alerts").glob("*.yml"):
        shutil.copy(rules, folder)
    address = next(bot.address for bot in await stack.cloud.bots() if bot.bot == FIRST)
    targets = f'[{{"targets": ["{address}"], "labels": {{"bot": "forge", "template": "tool-builder"}}}}]'
    (folder / "bots").mkdir()
    (folder / "bots" / "all.yml").write_text(targets)
    for name, text in files(page).items():
        (folder / name).write_text(text.replace("127.0.0.1:18790", address))
    with (
        closing(sqlite3.connect(stack.remediator.log.with_name("remediator.db"))) as state,
        closing(sqlite3.connect(folder / "remediator.db")) as copy,
    ):
        state.backup(copy)


def prelude() -> list[str]:
    """Return what docs/api.md has a reader type first: R, TOKEN and the alias `api`."""
    return [command.text for command in commands(ROOT / "docs/api.md")[:3]]


@asynccontextmanager
async def read_page(
    stack: Stack, page: Path, folder: Path, tools: Path, bot: str, lines: Iterable[Command]
) -> AsyncIterator[Reading]:
    """Open a terminal in the folder, with all that a reader of the page has."""
    await lay_out(stack, page, folder)
    async with run_shell(folder, environment(stack, folder, tools)) as shell:
        reading = Reading(stack, page, folder, shell, bot, ports(stack, lines))
        for command in prelude():
            assert (await shell.run(reading.filled(command))).code == 0
        yield reading
