"""Deployments one at a time and all at once, with an AWS that is slow: `make bench BENCH=deploy`.

The service and the cloud are processes of their own, and every bot is one. Each call of AWS takes `--latency`
more. The promise: all at once finish within twice the time of the slowest single one. EC2 itself takes 5
launches at once and 2 a second after that, which the service keeps to by default and the sandbox does not
ask for: `--launch-burst 5 --boot-seconds 60` is more like production, where a bot takes minutes to come up.
The last line is a JSON object.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])  # this folder's remediator.py would hide the package

import aiohttp

from sandbox.cloud.client import Cloud, run_cloud
from sandbox.process.processes import Process, answers, free_port
from tests.benchmarks.common import cpu_seconds, parse_options, say
from tests.remediator.conftest import TOKEN, Api, credentials, environment, read_rows

CALLS = ("PutParameter", "GetParameter", "RunInstances", "DescribeInstances", "CreateTags")
"""What a deployment asks of AWS."""


QUICK_OPTIONS = {"bots": 2, "singles": 1, "latency": 0.05}


async def deploy(api: Api, bot: str) -> str:
    """Begin a deployment; the run's id. Its end is read from the database: asking is work for the service."""
    answer = await api.begin_deploy(bot)
    assert answer.status == 202, answer
    run_id: str = answer.body["deploymentId"]
    return run_id


async def until_deployed(database: Path, runs: Sequence[str]) -> tuple[float, float]:
    """Wait for all of them; returns when the first was begun and when the last was done, in Unix seconds."""
    while True:
        rows = read_rows(database, "select id, status, created_at, finished_at from runs")
        mine = [row[1:] for row in rows if row[0] in runs]
        if len(mine) == len(runs) and all(finished for _, _, finished in mine):
            assert {status for status, _, _ in mine} == {"deployed"}, mine
            return min(begun for _, begun, _ in mine), max(finished for _, _, finished in mine)
        await asyncio.sleep(0.2)


async def slow_down(cloud: Cloud, seconds: float) -> None:
    """Have each call of AWS take so many seconds more."""
    for call in CALLS:
        await cloud.break_api(call, "delay", seconds=seconds, times=10**9)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    address, database = f"127.0.0.1:{free_port()}", folder / "remediator.db"
    async with run_cloud(folder / "cloud", boot_seconds=options.boot_seconds) as cloud:
        settings = {
            "listen": address,
            "token": TOKEN,
            "database_url": f"sqlite:///{database}",
            "aws_endpoint_url": cloud.endpoint_url,
            "aws_poll": 1.0,
            "verify_interval": 0.5,
            "launch_burst": options.launch_burst,
        }
        process = Process(
            [sys.executable, "-m", "remediator"],
            name="remediator",
            log=folder / "remediator.log",
            cwd=Path(__file__).parents[2],
            env=environment(settings) | credentials(),
            ready=answers(f"http://{address}/-/ready"),
        )
        patience = aiohttp.ClientTimeout(total=300)
        async with process, aiohttp.ClientSession(timeout=patience) as session:
            api = Api(f"http://{address}", session)
            await slow_down(cloud, options.latency)
            single = []
            for number in range(options.singles):
                begun, done = await until_deployed(database, [await deploy(api, f"single-{number}")])
                single.append(done - begun)
                say(f"single deployment {number + 1}: {single[-1]:.2f} s")
            used = cpu_seconds(process.pid or 0)
            runs = await asyncio.gather(*(deploy(api, f"bot-{n}") for n in range(options.bots)))
            begun, done = await until_deployed(database, runs)
            at_once, used = done - begun, cpu_seconds(process.pid or 0) - used
            launched = [effect.bot for effect in await cloud.effects() if effect.action == "run"]
            assert len(launched) == len(set(launched)) == options.bots + options.singles, "one instance each"
    say(f"{options.bots} at once: {at_once:.2f} s")
    return {
        "bots": options.bots,
        "latency_seconds": options.latency,
        "boot_seconds": options.boot_seconds,
        "launch_burst": options.launch_burst,
        "single_slowest_seconds": round(max(single), 2),
        "single_median_seconds": round(statistics.median(single), 2),
        "at_once_seconds": round(at_once, 2),
        "ratio": round(at_once / max(single), 2),
        "service_cpu_seconds": round(used, 2),
        "load_before": round(options.load, 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--bots", type=int, default=50, help="deployments at once")
    parser.add_argument("--singles", type=int, default=3, help="deployments before them, one at a time")
    parser.add_argument("--latency", type=float, default=0.5, help="seconds that each call of AWS takes more")
    parser.add_argument("--boot-seconds", type=float, default=0.3, help="seconds an instance takes to boot")
    parser.add_argument("--launch-burst", type=int, default=50, help="launches at once, of our own limit")
    parser.add_argument("--load", type=float, default=os.getloadavg()[0], help=argparse.SUPPRESS)
    options = parse_options(parser, QUICK_OPTIONS, argv)
    with tempfile.TemporaryDirectory(prefix="bench-deploy-") as folder:
        result = asyncio.run(measure(options, Path(folder)))
    say(json.dumps(result))


if __name__ == "__main__":
    main()
