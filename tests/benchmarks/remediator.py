"""The remediator on SQLite, beside its floors in the same run: `make bench BENCH=remediator`.

The service is a process of its own. Its fleet, and an AWS that answers at once, are in this one. The floors
are what this disk gives (a 4 KiB write and fsync) and what an empty Starlette route gives. The last line is a
JSON object.

`rss_mb` is the service at rest, where `idle_cpu` is measured; `rss_after_mb` is what is left two seconds
after 40 payloads and 500 recoveries, about 14 MB more: threads of AWS calls, their connections, and the
arenas that a payload of 1,000 alerts left half empty. At rest 80 are there once all is imported: 20 of them
are mapped files (the interpreter, libssl, pydantic-core), 12 SQLAlchemy, 9 botocore and boto3, 9 pydantic and
its settings, 6 aiohttp. The clients of EC2 and SSM take 2, of 32 with botocore's own loader.

`ack_1000_p99_ms` is processor time: 45 ms in the loop (1,000 rows of the trail hashed, decisions) and 45
in SQLite's thread (two statements to look, two to insert 2,000 rows), plus one commit. A machine that is busy
with other things stretches it as it stretches the empty route.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

sys.path[0] = str(Path(__file__).parents[2])  # this folder's remediator.py would hide the package

from remediator.model import Bot
from remediator.store.store import Store
from sandbox.process.processes import Process, answers, free_port
from sandbox.process.waiting import wait_until
from tests.benchmarks.common import cpu_seconds, memory_bytes, parse_options, say
from tests.chaos.replicas import Replica, run_replica
from tests.remediator.conftest import QUICK, firing, read_rows, webhook

QUICK_OPTIONS = {"recoveries": 4, "first_actions": 2, "payloads": 2, "seconds": 0.5, "floor_seconds": 0.5}
ADDRESS = "127.{}.{}.{}"
XML = (
    '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item>'
    "<instancesSet><item><instanceId>{}</instanceId><instanceState><code>16</code><name>running</name>"
    "</instanceState><tagSet><item><key>bot-orchestrator:managed</key><value>true</value></item></tagSet></item>"
    "</instancesSet></item></reservationSet></DescribeInstancesResponse>"
)
EMPTY_ROUTE = textwrap.dedent("""
    import sys, uvicorn
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route
    async def empty(request): return Response()
    app = Starlette(routes=[Route("/", empty)])
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False)
""")


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class Command:
    """A restart: when it was sent, and when a probe last verified it (Unix seconds)."""

    host: str
    sent: float
    proved: float
    probes: int = 0


@dataclass
class Fleet:
    """Bots on 127.1.0.0/16, one address each, and the AWS that restarts them."""

    port: int = 0
    ill: set[str] = field(default_factory=set)  # addresses
    commands: list[Command] = field(default_factory=list)  # every restart, in the order they were sent

    def bot(self, number: int) -> Bot:
        address = ADDRESS.format(1, number // 250, number % 250 + 1)
        return Bot(
            name=f"bench-{number}",
            template="support",
            environment="staging",
            state="active",
            address=f"{address}:{self.port}",
            health_path="/health",
            mesh_path="/mesh",
            instance_id="i-" + address.replace(".", "-"),
            config={},
            config_sha="",
            boot_id=None,
            started_at=None,
            zone="",
            quarantined_at=None,
            quarantine_reason=None,
            attempts_from=0,
            created_at=0,
            updated_at=0,
        )

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            return await self._aws(request)
        assert request.transport is not None
        host = request.transport.get_extra_info("sockname")[0]
        for command in self.commands[-100:]:
            if command.host == host and request.path == "/health" and command.probes < QUICK["verify_probes"]:
                command.proved, command.probes = time.time(), command.probes + 1
        return web.json_response({"ok": host not in self.ill}, status=500 if host in self.ill else 200)

    async def _aws(self, request: web.Request) -> web.Response:
        call = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if not call:
            query = parse_qs(await request.text())
            return web.Response(text=XML.format(query["Filter.1.Value.1"][0]), content_type="text/xml")
        if call == "SendCommand":
            (instance,) = json.loads(await request.text())["InstanceIds"]
            host = instance.removeprefix("i-").replace("-", ".")
            self.commands.append(Command(host, time.time(), time.time()))
            self.ill.discard(host)
            return web.json_response({"Command": {"CommandId": "00000000-0000-0000-0000-000000000000"}})
        return web.json_response({"Status": "Success", "ResponseCode": 0})


@asynccontextmanager
async def run_fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fleet.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0, backlog=1024)
    await site.start()
    fleet.port = runner.addresses[0][1]
    try:
        yield fleet
    finally:
        await runner.cleanup()


# floors


def fsyncs_per_s(folder: Path, seconds: float) -> float:
    """Measure appending writes of 4 KiB, each followed by fsync, a second."""
    fd = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    count, block, began = 0, os.urandom(4096), time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        os.write(fd, block)
        os.fsync(fd)
        count += 1
    os.close(fd)
    return count / spent


async def empty_route(folder: Path, seconds: float) -> tuple[float, float]:
    """Measure an empty Starlette route, one request after another: (p99 in ms, requests a second)."""
    url = f"http://127.0.0.1:{(port := free_port())}/"
    process = Process(
        [sys.executable, "-c", EMPTY_ROUTE, str(port)], log=folder / "empty.log", ready=answers(url)
    )
    took: list[float] = []
    async with process, aiohttp.ClientSession() as session:
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            async with session.post(url, data=b"") as response:
                await response.read()
            took.append((time.perf_counter() - began) * 1000)
    return percentile(took, 0.99), len(took) / seconds


# the service


@dataclass
class Payloads:
    """Payloads of Alertmanager in which every alert is new, and of a bot that is not ours."""

    size: int
    sent: int = 0

    def next(self) -> str:
        start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.sent)
        self.sent += 1
        at = start.isoformat()
        return json.dumps(
            webhook(*(firing(f"away-{self.sent}-{bot}", starts_at=at) for bot in range(self.size)))
        )


async def acknowledge(service: Replica, payloads: Payloads, count: int) -> list[float]:
    """Post payloads one after another; returns the milliseconds from each request to its 2xx."""
    took = []
    for body in [payloads.next() for _ in range(count)]:
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        answer = await service.api.call("POST", "/alerts", data=body, headers=headers)
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, answer
    return took


async def sustained(service: Replica, payloads: Payloads, count: int) -> float:
    """Measure alerts a second, of two senders at once, as a pair of Alertmanagers has them."""
    bodies = [payloads.next() for _ in range(count)]
    headers = {"Content-Type": "application/json"}

    async def send() -> None:
        while bodies:
            answer = await service.api.call("POST", "/alerts", data=bodies.pop(), headers=headers)
            assert answer.status == 200, answer

    began = time.perf_counter()
    await asyncio.gather(send(), send())
    return count * payloads.size / (time.perf_counter() - began)


async def first_action(service: Replica, fleet: Fleet, bots: Sequence[Bot]) -> list[float]:
    """Measure the seconds from the sending of an alert to the SendCommand, one bot after another."""
    took = []
    for bot in bots:
        host = bot.address.partition(":")[0]
        fleet.ill.add(host)
        began = time.time()
        (run_id,) = await service.api.alert(firing(bot.name))
        await service.api.until_ended(f"/recover/{run_id}")
        took.append(next(command.sent for command in fleet.commands if command.host == host) - began)
    return took


async def drain(
    service: Replica,
    fleet: Fleet,
    database: Path,
    bots: Sequence[Bot],
    payloads: Payloads,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Let all of them be ill, in one payload: until the last run has ended, and how payloads fare meanwhile.

    That the cap is exact is counted from what AWS was asked, and from the journal.
    """
    fleet.ill |= {bot.address.partition(":")[0] for bot in bots}
    already = len(fleet.commands)
    began = time.perf_counter()
    ids = await service.api.alert(*(firing(bot.name) for bot in bots))
    taken = time.perf_counter() - began
    busy = await acknowledge(service, payloads, min(10, options.payloads))
    marks = ",".join("?" * len(ids))

    async def ended() -> bool:
        query = f"select count(*) from runs where id in ({marks}) and finished_at is null"
        return read_rows(database, query, ids) == [(0,)]

    await wait_until(ended, 600, "every recovery ended", every=0.25)
    seconds = time.perf_counter() - began
    journaled = read_rows(
        database,
        f"select intended_at, finished_at from steps where name = 'restart' and run_id in ({marks})",
        ids,
    )
    effects = fleet.commands[already:]
    recovered = f"select count(*) from runs where status = 'recovered' and id in ({marks})"
    return {
        "drain_recoveries": len(ids),
        "drain_taken_ms": round(taken * 1000),
        "drain_ack_1000_p99_ms": round(percentile(busy, 0.99), 1),
        "drain_s": round(seconds, 1),
        "drain_recovered": read_rows(database, recovered, ids)[0][0],
        "drain_restarts": len(effects),
        "drain_restarted_twice": len(effects) - len({effect.host for effect in effects}),
        "drain_most_at_once": most_at_once(journaled),
        "drain_most_at_once_by_aws": most_at_once([(effect.sent, effect.proved) for effect in effects]),
        "drain_cap": options.cap,
    }


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    edges = sorted(edge for start, end in spans for edge in ((end, -1), (start, 1)))
    level, most = 0, 0
    for _, step in edges:
        most = max(most, level := level + step)
    return most


def memory_mb(pid: int, key: str) -> float:
    """Return a figure of /proc/PID/status in MiB."""
    return round(memory_bytes(pid, key) / 2**20, 1)


async def idle_cpu(pid: int, seconds: float) -> float:
    before, began = cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.perf_counter() - began)


async def register(database_url: str, bots: Sequence[Bot]) -> None:
    store = await Store.open(database_url)
    async with store.write() as tx:
        for bot in bots:
            await tx.add_bot(bot)
    await store.close()


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    database = folder / "remediator.db"
    url = f"sqlite:///{database}"
    result: dict[str, Any] = {}
    async with run_fleet() as fleet:
        bots = [fleet.bot(number) for number in range(options.recoveries + options.first_actions)]
        await register(url, bots)
        settings = {
            "aws_endpoint_url": f"http://127.0.0.1:{fleet.port}",
            "max_in_flight": options.cap,
            "actions_burst": 10_000,
            "lease": 30.0,
            "gate_interval": 15.0,
        }
        async with run_replica(folder, "remediator", url, **settings) as service:
            pid = service.process.pid
            assert pid is not None
            await asyncio.sleep(2)
            result["rss_mb"] = memory_mb(pid, "VmRSS")
            result["idle_cpu"] = round(await idle_cpu(pid, options.seconds), 4)
            say(f"idle: {result['idle_cpu']:.2%} of a core, {result['rss_mb']} MB")

            took = await first_action(service, fleet, bots[: options.first_actions])
            result["first_action_s"] = round(max(took), 3)
            result["first_action_median_s"] = round(statistics.median(took), 3)
            say(f"first action after {result['first_action_s']} s at worst")

            result["fsyncs_per_s"] = round(fsyncs_per_s(folder, options.floor_seconds))
            p99, rate = await empty_route(folder, options.floor_seconds)
            result["empty_route_p99_ms"], result["empty_route_per_s"] = round(p99, 2), round(rate)
            payloads = Payloads(1000)
            acks = await acknowledge(service, payloads, options.payloads)
            result["ack_1000_p99_ms"] = round(percentile(acks, 0.99), 1)
            result["ack_1000_median_ms"] = round(statistics.median(acks), 1)
            result["alerts_per_s"] = round(await sustained(service, payloads, options.payloads))
            say(f"1,000 alerts on disk in {result['ack_1000_median_ms']} ms, p99 {result['ack_1000_p99_ms']}")

            result |= await drain(service, fleet, database, bots[options.first_actions :], payloads, options)
            say(f"{options.recoveries} recoveries in {result['drain_s']} s")
            await asyncio.sleep(2)
            result["rss_after_mb"] = memory_mb(pid, "VmRSS")
            result["rss_peak_mb"] = memory_mb(pid, "VmHWM")
            result["rss_of_files_mb"] = memory_mb(pid, "RssFile")
            result["idle_cpu_after"] = round(await idle_cpu(pid, options.seconds), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--recoveries", type=int, default=500, help="queued at once")
    parser.add_argument("--first-actions", type=int, default=10, help="single recoveries before that")
    parser.add_argument("--cap", type=int, default=20, help="of those in hand at once")
    parser.add_argument("--payloads", type=int, default=40, help="of 1,000 alerts")
    parser.add_argument("--seconds", type=float, default=20, help="of idleness that are measured")
    parser.add_argument("--floor-seconds", type=float, default=3, help="of each floor")
    options = parse_options(parser, QUICK_OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
        say(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
