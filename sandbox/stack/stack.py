"""The services around a cloud: exporter, remediator, Prometheus, Alertmanager, a stand-in for Telegram."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import aiohttp

from exporter.durations import DURATION, format_duration, parse_duration
from exporter.settings import Settings as ExporterSettings
from remediator.settings import describe as remediator_settings
from sandbox.cloud.client import Cloud
from sandbox.process.binaries import find
from sandbox.process.processes import Process, ProcessError, answers, free_port
from sandbox.process.waiting import wait_until
from sandbox.stack.telegram import Telegram, run_telegram
from sandbox.stack.timescale import FAST, Addresses, Timescale, render

REPOSITORY = Path(__file__).parents[2]
RESEND_SECONDS = 60.0  # Prometheus's default for --rules.alert.resend-delay
CHAT = -1001
REMEDIATOR_BOT, ALERTMANAGER_BOT = "1:remediator", "2:alertmanager"  # the sender of a message
AWS = {  # moto checks no key, boto3 wants one
    "AWS_ACCESS_KEY_ID": "sandbox",
    "AWS_SECRET_ACCESS_KEY": "sandbox",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class StackError(RuntimeError):
    """A service of the stack did not answer, or with an error."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The running services, as processes that may be killed and started again, and their URLs."""

    cloud: Cloud
    token: str
    prometheus_url: str
    alertmanager_url: str
    exporter_url: str
    remediator_url: str
    prometheus: Process
    alertmanager: Process
    exporter: Process
    remediator: Process
    telegram: Telegram
    session: aiohttp.ClientSession

    @property
    def processes(self) -> list[Process]:
        """Return the processes of all services."""
        return [self.prometheus, self.alertmanager, self.remediator, self.exporter]

    async def call(self, method: str, path: str, payload: Mapping[str, Any] | None = None) -> Any:
        """Call the remediator's API with its token; returns the JSON of the answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self._json(method, self.remediator_url + path, json=payload, headers=headers)

    async def query(self, promql: str) -> list[dict[str, Any]]:
        """Do an instant query; returns `[{"metric": labels, "value": [time, text]}]`."""
        url = f"{self.prometheus_url}/api/v1/query"
        answer = await self._json("POST", url, data={"query": promql})
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    async def rules(self) -> list[str]:
        """List the names of the alerting and recording rules that Prometheus evaluates."""
        answer = await self._json("GET", f"{self.prometheus_url}/api/v1/rules")
        return [rule["name"] for group in answer["data"]["groups"] for rule in group["rules"]]

    async def alerts(self) -> list[dict[str, Any]]:
        """List Alertmanager's active alerts (its API, v2)."""
        alerts: list[dict[str, Any]] = await self._json("GET", f"{self.alertmanager_url}/api/v2/alerts")
        return alerts

    async def exposition(self) -> str:
        """Return the exporter's /metrics."""
        return (await self._request("GET", f"{self.exporter_url}/metrics")).decode()

    async def _json(self, method: str, url: str, **options: Any) -> Any:
        return json.loads(await self._request(method, url, **options))

    async def _request(self, method: str, url: str, **options: Any) -> bytes:
        try:
            async with self.session.request(method, url, **options) as response:
                if response.status >= 400:
                    raise StackError(f"{method} {url}: {response.status} {(await response.text())[:300]}")
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StackError(f"{method} {url}: {str(error) or 'no answer'}") from error


@asynccontextmanager
async def run_stack(
    directory: Path,
    cloud: Cloud,
    *,
    scale: Timescale = FAST,
    settings: Mapping[str, str] | None = None,
    telegram: Telegram | None = None,
) -> AsyncIterator[Stack]:
    """Run the whole stack over a cloud, ready when this yields, gone when it ends.

    `scale` divides every duration of `alerts/` and of both services' settings, down to floors. `settings` are
    more of the remediator's, such as `{"MODES": "*=approve"}`. `telegram`: the stand-in that the cloud's
    bots use; without it one is run.
    """
    async with AsyncExitStack() as exit_stack:
        if telegram is None:
            telegram = await exit_stack.enter_async_context(run_telegram())
        timeout = aiohttp.ClientTimeout(total=30)
        session = await exit_stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        names = ("bot-exporter", "bot-remediator", "prometheus", "alertmanager")
        jobs = dict(zip(names, free_addresses(len(names)), strict=True))
        addresses = Addresses(
            jobs=jobs,
            alertmanager=jobs["alertmanager"],
            webhook=jobs["bot-remediator"],
            telegram_api=telegram.url,
            token=token_urlsafe(),
            telegram_token=ALERTMANAGER_BOT,
            telegram_chat=CHAT,
        )
        render(directory / "config", scale, addresses)
        stack = Stack(
            cloud=cloud,
            token=addresses.token,
            prometheus_url=f"http://{jobs['prometheus']}",
            alertmanager_url=f"http://{jobs['alertmanager']}",
            exporter_url=f"http://{jobs['bot-exporter']}",
            remediator_url=f"http://{jobs['bot-remediator']}",
            prometheus=await prometheus(directory, jobs["prometheus"], scale),
            alertmanager=await alertmanager(directory, jobs["alertmanager"]),
            exporter=exporter(directory, jobs["bot-exporter"], jobs["bot-remediator"], scale),
            remediator=remediator(directory, addresses, scale, cloud, settings or {}),
            telegram=telegram,
            session=session,
        )
        for process in stack.processes:
            exit_stack.push_async_callback(process.aclose)
        await start(stack)
        yield stack


async def start(stack: Stack) -> None:
    """Start everything; Alertmanager last, when Prometheus has scraped the others.

    Prometheus evaluates rules at once, but first scrapes after 5 s (discovery/manager.go gathers targets for
    that long): on a faster clock, time enough for the alerts about absent services to fire.
    """
    early = [stack.prometheus, stack.remediator, stack.exporter]
    await asyncio.gather(*(process.start() for process in early))
    await wait_until(lambda: is_scraped(stack, len(early)), 60, "Prometheus scrapes the services")
    await stack.alertmanager.start()
    await wait_until(lambda: is_scraped(stack, len(early) + 1), 60, "Prometheus scrapes Alertmanager")


async def is_scraped(stack: Stack, count: int) -> bool:
    """Return whether so many services have answered a scrape."""
    return len(await stack.query("up == 1")) >= count


async def prometheus(directory: Path, address: str, scale: Timescale) -> Process:
    """Make a Prometheus over `directory/config`; ProcessError if promtool finds fault with that."""
    config = directory / "config" / "prometheus.yml"
    await check("promtool", "check", "config", str(config))
    argv: list[str | Path] = [
        await asyncio.to_thread(find, "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}/",
        f"--rules.alert.resend-delay={format_duration(scale.seconds(RESEND_SECONDS, 2))}",
        "--log.level=warn",
    ]
    return Process(argv, log=directory / "prometheus.log", ready=answers(f"http://{address}/-/ready"))


async def alertmanager(directory: Path, address: str) -> Process:
    """Make an Alertmanager over `directory/config`; ProcessError if amtool finds fault with that."""
    config = directory / "config" / "alertmanager.yml"
    await check("amtool", "check-config", str(config))
    argv: list[str | Path] = [
        await asyncio.to_thread(find, "alertmanager"),
        f"--config.file={config}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}/",
        "--cluster.listen-address=",  # alone: no gossip
    ]
    return Process(argv, log=directory / "alertmanager.log", ready=answers(f"http://{address}/-/ready"))


def exporter(directory: Path, address: str, remediator_address: str, scale: Timescale) -> Process:
    """Make an exporter that takes its targets from the remediator."""
    defaults = ExporterSettings()
    argv = [
        *(sys.executable, "-m", "exporter"),
        f"--web.listen-address={address}",
        f"--targets.url=http://{remediator_address}/sd",
        f"--targets.refresh={format_duration(scale.seconds(defaults.refresh, 0.5))}",
        f"--probe.interval={format_duration(scale.seconds(defaults.interval, scale.period_floor))}",
        f"--probe.timeout={format_duration(scale.seconds(defaults.timeout, scale.period_floor))}",
    ]
    ready = answers(f"http://{address}/-/healthy")
    return Process(argv, name="exporter", log=directory / "exporter.log", cwd=REPOSITORY, ready=ready)


def remediator(
    directory: Path, addresses: Addresses, scale: Timescale, cloud: Cloud, more: Mapping[str, str]
) -> Process:
    """Make a remediator over the cloud, with a database of its own in `directory`."""
    address = addresses.jobs["bot-remediator"]
    settings = faster_remediator(scale) | {
        "LISTEN": address,
        "PUBLIC_URL": f"http://{address}",
        "TOKEN_FILE": str(directory / "config" / addresses.credentials_file),
        "DATABASE_URL": f"sqlite:///{directory / 'remediator.db'}",
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "PROMETHEUS_URL": f"http://{addresses.jobs['prometheus']}",
        "ALERTMANAGER_URL": f"http://{addresses.jobs['alertmanager']}",
        "TELEGRAM_API_URL": addresses.telegram_api,
        "TELEGRAM_TOKEN": REMEDIATOR_BOT,
        "TELEGRAM_CHAT_ID": str(CHAT),
        **more,
    }
    return Process(
        [sys.executable, "-m", "remediator"],
        name="remediator",
        log=directory / "remediator.log",
        cwd=REPOSITORY,
        env={f"BOT_REMEDIATOR_{name}": value for name, value in settings.items()} | AWS,
        ready=answers(f"http://{address}/-/ready"),
    )


def faster_remediator(scale: Timescale) -> dict[str, str]:
    """Return the remediator's own durations on the faster clock, by setting.

    Some have a higher floor: a machine boots no faster, and AWS answers no sooner, because a clock does.
    """
    slow = {"RESTART_TIMEOUT", "REBOOT_TIMEOUT", "REDEPLOY_TIMEOUT", "RELAPSE_AFTER", "AWS_TIMEOUT"}
    names = {
        variable.removeprefix("BOT_REMEDIATOR_"): default
        for variable, default, _ in remediator_settings()
        if re.fullmatch(DURATION, default)
    }
    return {
        name: format_duration(scale.seconds(parse_duration(default), 5 if name in slow else 0.5))
        for name, default in names.items()
    } | {"PROBE_TIMEOUT": format_duration(scale.seconds(parse_duration(names["PROBE_TIMEOUT"]), 1))}


def free_addresses(count: int) -> list[str]:
    """Return different addresses: nothing listens yet on a port that was just chosen."""
    addresses: set[str] = set()
    while len(addresses) < count:
        addresses.add(f"127.0.0.1:{free_port()}")
    return list(addresses)


async def check(tool: str, *arguments: str) -> None:
    """Run promtool or amtool; ProcessError with its output where it finds fault."""
    path = await asyncio.to_thread(find, tool)
    process = await asyncio.create_subprocess_exec(
        path, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise ProcessError(f"{tool} {' '.join(arguments)}:\n{output.decode()}")
