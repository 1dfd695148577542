"""The exporter against blackbox_exporter and wrk, on loopback, in one run: `make bench BENCH=exporter`.

The fleet is nginx on one core, whatever is measured is pinned to the other. CPU is what the kernel counts for
the process; each ratio is the median of several rounds, in which the contestants take turns.

Two floors show what is left to gain: wrk's GETs in C over a connection that stays open, and the system calls
of a probe alone from Python, 64 connections at a time, with nothing parsed, scored or published.

The last line is a JSON object. `bots_per_minute_core` is by CPU time, and `flat_out_share` says how much of
the core the exporter had: below 1 where others were at work.
"""

import argparse
import asyncio
import json
import math
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

sys.path[0] = str(Path(__file__).parents[2])  # this folder's exporter.py would hide the package

from sandbox.process import binaries
from sandbox.process.processes import free_port
from tests.benchmarks.common import cpu_seconds, memory_bytes, parse_options, say

ROOT = Path(__file__).parents[2]
FLEET_CORE, CLIENT_CORE = 1, 0
HEALTH = (
    '{"ok":true,"status":"live","boot_id":"b-1","version":"1.2.3","config_sha":"abc",'
    '"context_usage":0.4,"usage":{"requests":10,"input_tokens":1000,"output_tokens":200}}'
)
MESH = '{"ok":true,"peers":[{"name":"a","up":true},{"name":"b","up":true}]}'
GZIP = {"Accept-Encoding": "gzip"}


def debian(package: str, path: str) -> Path:
    """Return a file of a Debian package, fetched once into the sandbox's cache; `path` may be a glob."""
    (match,) = binaries.unpacked(package).glob(path)
    return match


@contextmanager
def running(core: int, *argv: str | Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program pinned to a core until the block ends."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *map(str, argv)],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


QUICK_OPTIONS = {
    "bots": 1000,
    "blackbox_bots": 40,
    "rounds": 1,
    "seconds": 0.5,
    "interval": 2,
    "scrapes": 3,
    "drift_minutes": 0,
}


@contextmanager
def fleet(folder: Path) -> Iterator[int]:
    """Run nginx, by which every address of 127.0.0.0/8 is a bot; yields its port."""
    port = free_port("0.0.0.0")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;"
        "events { worker_connections 16000; }"
        f"http {{ access_log off; keepalive_requests 100000000; default_type application/json; {temporary}"
        f"server {{ listen 0.0.0.0:{port} backlog=8192;"
        f"location = /health {{ return 200 '{HEALTH}'; }} location = /mesh {{ return 200 '{MESH}'; }} }} }}"
    )
    nginx = debian("nginx", "usr/sbin/nginx")
    with running(FLEET_CORE, nginx, "-c", folder / "nginx.conf", "-p", folder) as process:
        wait_until_listening(process, port)
        yield port


def wait_until_listening(process: subprocess.Popen[bytes], port: int, timeout: float = 30) -> None:
    """Wait until the process accepts connections; exits where it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    process.kill()
    _, errors = process.communicate()
    sys.exit(f"nginx does not answer on port {port}: {errors.decode(errors='replace')}")


def addresses(count: int, port: int) -> list[str]:
    """Return so many addresses of bots, all of them nginx."""
    return [f"127.{1 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}:{port}" for n in range(count)]


def write_targets(path: Path, count: int, port: int) -> None:
    templates = ("support", "designer", "manager", "tool-builder")
    groups = [
        {
            "targets": [address],
            "labels": {
                "bot": f"bot-{n:05d}",
                "template": templates[n % 4],
                "environment": "production",
                "instance_id": f"i-{n:017x}",
            },
        }
        for n, address in enumerate(addresses(count, port))
    ]
    path.write_text(json.dumps(groups))


async def blackbox_us(folder: Path, session: aiohttp.ClientSession, port: int, bots: int) -> float:
    """Return the CPU of blackbox_exporter for its two probes of a bot, in µs."""
    (folder / "blackbox.yml").write_text(
        "modules: {http_2xx: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}}"
    )
    listen = f"127.0.0.1:{free_port()}"
    url = f"http://{listen}"
    flags = ("--config.file", folder / "blackbox.yml", "--web.listen-address", listen)
    with running(CLIENT_CORE, binaries.find("blackbox_exporter"), *flags, GOMAXPROCS="1") as process:
        targets = addresses(bots, port)

        async def probe(address: str) -> None:
            for path in ("health", "mesh"):
                query = f"/probe?module=http_2xx&target=http://{address}/{path}"
                async with session.get(url + query) as response:
                    assert "probe_success 1" in await response.text()

        await wait_until_ok(session, url + "/-/healthy")
        await asyncio.gather(*map(probe, targets[:20]))
        before = cpu_seconds(process.pid)
        for start in range(0, bots, 20):
            await asyncio.gather(*map(probe, targets[start : start + 20]))
        return (cpu_seconds(process.pid) - before) / bots * 1e6


def wrk_us(port: int, seconds: int) -> float:
    """Return the CPU of wrk for two GETs over a connection that stays open, in µs."""
    library = debian("libluajit-5.1-2", "usr/lib/*-linux-gnu")
    wrk = debian("wrk", "usr/bin/wrk")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["taskset", "-c", str(CLIENT_CORE), wrk, "-t1", "-c16", f"-d{seconds}s",
         f"http://127.0.0.1:{port}/health"],
        env=os.environ | {"LD_LIBRARY_PATH": str(library)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    requests = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / requests * 2 * 1e6


def sockets_us(port: int, bots: int) -> float:
    """Return the CPU of the system calls of a probe, in a process of its own, in µs."""
    argv = ["taskset", "-c", str(CLIENT_CORE), sys.executable, __file__, "--sockets", str(bots), str(port)]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def bare_sockets(bots: int, port: int) -> float:
    """Connect, send, read, send, read, close; returns the CPU of that, in µs a bot."""
    head = f"HTTP/1.1\r\nHost: 127.1.1.1:{port}\r\nUser-Agent: bot-exporter\r\nAccept: application/json\r\n"
    requests = [f"GET /{path} {head}\r\n".encode() for path in ("health", "mesh")]
    peers = [(address.partition(":")[0], port) for address in addresses(bots, port)]
    started = time.process_time()
    for first in range(0, bots, 64):
        connected: list[socket.socket] = []
        for peer in peers[first : first + 64]:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.connect_ex(peer)
            connected.append(sock)
        for request in requests:
            for sock in connected:
                sock.send(request)
            for sock in connected:
                while True:
                    try:
                        assert sock.recv(65536)
                        break
                    except BlockingIOError:
                        time.sleep(0.0005)
        for sock in connected:
            sock.close()
    return (time.process_time() - started) / bots * 1e6


async def wait_until_ok(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until the URL answers 200."""
    async with asyncio.timeout(120):
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.01)


@dataclass
class MeasuredExporter:
    """A running exporter."""

    pid: int
    url: str
    session: aiohttp.ClientSession

    async def self_metrics(self) -> dict[str, float]:
        """Return the exporter's own series, summed over labels, from the page with the fewest bots."""
        async with self.session.get(self.url + "/metrics?page=1&of=16", headers=GZIP) as response:
            text = await response.text()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text[text.index("# HELP bot_exporter_targets ") :]):
            for sample in family.samples:
                if sample.labels.get("endpoint", "health") == "health":
                    key = sample.name + (f"_{sample.labels['le']}" if "le" in sample.labels else "")
                    sums[key] = sums.get(key, 0) + sample.value
        return sums

    async def warm(self, bots: int) -> None:
        """Wait for as many probes as bots; for a minute at most, where others are at work."""
        await wait_until_ok(self.session, self.url + "/-/ready")
        for _ in range(600):
            if (await self.self_metrics())["bot_fleet_probes_total"] >= bots:
                return
            await asyncio.sleep(0.1)

    async def over(self, seconds: float) -> dict[str, float]:
        """Measure for so many seconds: probes, failures, CPU seconds, share on time."""
        first, cpu, start = await self.self_metrics(), cpu_seconds(self.pid), time.perf_counter()
        await asyncio.sleep(seconds)
        last, used = await self.self_metrics(), cpu_seconds(self.pid) - cpu

        def growth(name: str) -> float:
            return last[name] - first[name]

        lag = "bot_exporter_schedule_lag_seconds"
        return {
            "seconds": time.perf_counter() - start,
            "probes": growth("bot_fleet_probes_total"),
            "failures": growth("bot_fleet_probe_failures_total"),
            "cpu": used,
            "on_time": growth(f"{lag}_bucket_0.05") / max(1, growth(f"{lag}_count")),
        }


@contextmanager
def run_exporter(
    folder: Path, session: aiohttp.ClientSession, port: int, bots: int, interval: float, *flags: str
) -> Iterator[MeasuredExporter]:
    path = folder / f"bots-{bots}.json"
    if not path.exists():
        write_targets(path, bots, port)
    argv = (sys.executable, "-m", "exporter", "--targets.file", path, "--probe.interval", f"{interval}s")
    listen = f"127.0.0.1:{free_port()}"
    more = ("--web.listen-address", listen, "--log.level", "error", *flags)
    with running(CLIENT_CORE, *argv, *more) as process:
        yield MeasuredExporter(process.pid, f"http://{listen}", session)


async def scrape_ms(exporter: MeasuredExporter, scrapes: int) -> tuple[float, float, int]:
    """Return the median of a gzipped scrape, the longest it held up anything else, and its size.

    Times are in ms, the size in bytes.
    """
    times: list[float] = []
    delays: list[float] = []
    size = 0
    done = asyncio.Event()

    async def ping() -> None:
        while not done.is_set():
            start = time.perf_counter()
            async with exporter.session.get(exporter.url + "/-/healthy"):
                delays.append(time.perf_counter() - start)

    pinging = asyncio.create_task(ping())
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for _ in range(scrapes):
            await asyncio.sleep(0.5)
            start = time.perf_counter()
            async with session.get(exporter.url + "/metrics", headers=GZIP) as response:
                times.append(time.perf_counter() - start)
                size = len(await response.read())
    done.set()
    await pinging
    delays.sort()
    return sorted(times)[len(times) // 2] * 1000, delays[int(len(delays) * 0.999)] * 1000, size


async def cpu_us(
    options: argparse.Namespace, folder: Path, session: aiohttp.ClientSession, port: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the CPU a bot of each contestant in one round, in µs, and the exporter's figures flat out."""
    used = {"blackbox": await blackbox_us(folder, session, port, options.blackbox_bots)}
    used["wrk"] = wrk_us(port, math.ceil(min(options.seconds, 2)))
    used["sockets"] = sockets_us(port, options.blackbox_bots)
    bots = min(8000, options.bots)
    over_streams = ("--probe.transport", "streams", "--probe.max-in-flight", "64")
    with run_exporter(folder, session, port, bots, min(5, options.interval), *over_streams) as exporter:
        await exporter.warm(min(3000, bots))
        figures = await exporter.over(options.seconds)
        used["streams"] = figures["cpu"] / figures["probes"] * 1e6
    with run_exporter(folder, session, port, options.bots, min(6, options.interval)) as exporter:
        await exporter.warm(options.bots)
        flat_out = await exporter.over(options.seconds)
        used["fast"] = flat_out["cpu"] / flat_out["probes"] * 1e6
    say(", ".join(f"{name} {value:.1f}" for name, value in used.items()) + " µs a bot")
    return used, flat_out


async def measure_rivals(
    options: argparse.Namespace, folder: Path, session: aiohttp.ClientSession, port: int
) -> dict[str, float]:
    rounds = [await cpu_us(options, folder, session, port) for _ in range(options.rounds)]

    def over(name: str, rival: str) -> float:
        return statistics.median(used[name] / used[rival] for used, _ in rounds)

    fast = statistics.median(used["fast"] for used, _ in rounds)
    return {
        "cpu_vs_blackbox": round(over("fast", "blackbox"), 4),
        "cpu_vs_blackbox_streams": round(over("streams", "blackbox"), 4),
        "cpu_vs_wrk": round(over("fast", "wrk"), 2),
        "cpu_vs_sockets": round(over("fast", "sockets"), 2),
        "bots_per_minute_core": round(60e6 / fast),
        "flat_out_share": round(statistics.median(run["cpu"] / run["seconds"] for _, run in rounds), 3),
        "false_failures": sum(run["failures"] for _, run in rounds),
    }


async def measure_fleet(
    options: argparse.Namespace, folder: Path, session: aiohttp.ClientSession, port: int
) -> dict[str, float]:
    """Measure a fleet probed once a minute: cost, punctuality, scrapes and memory."""
    result: dict[str, float] = {}
    with run_exporter(folder, session, port, 0, options.interval) as exporter:
        await wait_until_ok(session, exporter.url + "/-/ready")
        empty = memory_bytes(exporter.pid)
    started = time.perf_counter()
    with run_exporter(folder, session, port, options.bots, options.interval) as exporter:
        await wait_until_ok(session, exporter.url + "/-/ready")
        result["ready_s"] = round(time.perf_counter() - started, 2)
        await asyncio.sleep(options.interval + 2)
        figures = await exporter.over(options.seconds * 4)
        result["core_share_50k"] = round(
            figures["cpu"] / figures["probes"] * options.bots / options.interval, 4
        )
        result["on_time"] = round(figures["on_time"], 5)
        result["false_failures_steady"] = figures["failures"]
        took, delay, size = await scrape_ms(exporter, options.scrapes)
        result["scrape_50k_ms"], result["scrape_probe_delay_ms"] = round(took, 2), round(delay, 2)
        say(
            f"steady {figures['cpu'] / figures['probes'] * 1e6:.0f} µs a bot, a scrape is {size / 1e6:.1f} MB"
        )
        # A bot's history is full after four probes; only from then on is growth a drift.
        await asyncio.sleep(min(max(options.drift_minutes - 1, 0), 3) * 60)
        first = memory_bytes(exporter.pid)
        result["bytes_per_bot"] = round((first - empty) / options.bots)
        await asyncio.sleep(options.drift_minutes * 60)
        result["rss_drift"] = round(memory_bytes(exporter.pid) / first - 1, 4)
    return result


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    os.sched_setaffinity(0, {FLEET_CORE})
    result: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        with fleet(folder) as port:
            if "rivals" in options.parts:
                result |= await measure_rivals(options, folder, session, port)
            if "fleet" in options.parts:
                result |= await measure_fleet(options, folder, session, port)
    return result | {"load": round(os.getloadavg()[2], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("rivals", "fleet")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="what to measure")
    parser.add_argument("--bots", type=int, default=50_000)
    parser.add_argument("--blackbox-bots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of a measurement")
    parser.add_argument(
        "--interval", type=int, default=60, help="seconds between two probes of a bot of the fleet"
    )
    parser.add_argument("--scrapes", type=int, default=15, help="to take the median of")
    parser.add_argument("--drift-minutes", type=float, default=1, help="to watch memory; 20 for the goal")
    parser.add_argument("--sockets", type=int, nargs=2, metavar=("BOTS", "PORT"), help=argparse.SUPPRESS)
    options = parse_options(parser, QUICK_OPTIONS)
    if options.sockets:
        say(str(bare_sockets(*options.sockets)))
        return
    with tempfile.TemporaryDirectory() as folder:
        say(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
