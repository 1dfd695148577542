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

from sandbox import binaries

FLEET_CORE, CLIENT_CORE = 1, 0
FLEET_PORT = 28790
TICKS = os.sysconf("SC_CLK_TCK")
HEALTH = (
    '{"ok":true,"status":"live","boot_id":"b-1","version":"1.2.3","config_sha":"abc",'
    '"context_usage":0.4,"usage":{"requests":10,"input_tokens":1000,"output_tokens":200}}'
)
MESH = '{"ok":true,"peers":[{"name":"a","up":true},{"name":"b","up":true}]}'
GZIP = {"Accept-Encoding": "gzip"}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def debian(package: str, path: str) -> Path:
    """A file of a Debian package, fetched once into the cache the sandbox uses."""
    tree = binaries.CACHE / package
    with binaries.lock(binaries.CACHE):
        if not tree.exists():
            with tempfile.TemporaryDirectory(dir=binaries.CACHE) as folder:
                binaries.unpack(package, Path(folder)).rename(tree)
    return tree / path


@contextmanager
def running(core: int, *argv: str | Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *map(str, argv)],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


@contextmanager
def fleet(folder: Path) -> Iterator[None]:
    """Every address of 127.0.0.0/8 is a bot."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;"
        "events { worker_connections 16000; }"
        f"http {{ access_log off; keepalive_requests 100000000; default_type application/json; {temporary}"
        f"server {{ listen 0.0.0.0:{FLEET_PORT} backlog=8192;"
        f"location = /health {{ return 200 '{HEALTH}'; }} location = /mesh {{ return 200 '{MESH}'; }} }} }}"
    )
    nginx = debian("nginx", "usr/sbin/nginx")
    with running(FLEET_CORE, nginx, "-c", folder / "nginx.conf", "-p", folder) as process:
        time.sleep(1)
        if process.poll() is not None:
            sys.exit(f"nginx did not start: is port {FLEET_PORT} in use?")
        yield


def addresses(count: int) -> list[str]:
    return [f"127.{1 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}:{FLEET_PORT}" for n in range(count)]


def write_targets(path: Path, count: int) -> None:
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
        for n, address in enumerate(addresses(count))
    ]
    path.write_text(json.dumps(groups))


async def blackbox_us(folder: Path, session: aiohttp.ClientSession, bots: int) -> float:
    """CPU of blackbox_exporter for its two probes of a bot, in µs."""
    (folder / "blackbox.yml").write_text(
        "modules: {http_2xx: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}}"
    )
    listen = f"127.0.0.1:{free_port()}"
    url = f"http://{listen}"
    flags = ("--config.file", folder / "blackbox.yml", "--web.listen-address", listen)
    with running(CLIENT_CORE, binaries.find("blackbox_exporter"), *flags, GOMAXPROCS="1") as process:
        places = addresses(bots)

        async def probe(address: str) -> None:
            for path in ("health", "mesh"):
                query = f"/probe?module=http_2xx&target=http://{address}/{path}"
                async with session.get(url + query) as response:
                    assert "probe_success 1" in await response.text()

        await until(session, url + "/-/healthy")
        await asyncio.gather(*map(probe, places[:20]))
        before = cpu_seconds(process.pid)
        for start in range(0, bots, 20):
            await asyncio.gather(*map(probe, places[start : start + 20]))
        return (cpu_seconds(process.pid) - before) / bots * 1e6


def wrk_us(seconds: int) -> float:
    """CPU of wrk for two GETs over a connection that stays open, in µs."""
    library = debian("libluajit-5.1-2", "usr/lib/x86_64-linux-gnu")
    wrk = debian("wrk", "usr/bin/wrk")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["taskset", "-c", str(CLIENT_CORE), wrk, "-t1", "-c16", f"-d{seconds}s",
         f"http://127.0.0.1:{FLEET_PORT}/health"],
        env=os.environ | {"LD_LIBRARY_PATH": str(library)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    requests = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / requests * 2 * 1e6


def sockets_us(bots: int) -> float:
    """CPU of the system calls of a probe, in a process of its own, in µs."""
    argv = ["taskset", "-c", str(CLIENT_CORE), sys.executable, __file__, "--sockets", str(bots)]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def bare_sockets(bots: int) -> float:
    """Connect, ask, read, ask, read, close."""
    head = "HTTP/1.1\r\nHost: 127.1.1.1:28790\r\nUser-Agent: bot-exporter\r\nAccept: application/json\r\n"
    asked = [f"GET /{path} {head}\r\n".encode() for path in ("health", "mesh")]
    places = [(host, int(port)) for host, port in (address.split(":") for address in addresses(bots))]
    started = time.process_time()
    for first in range(0, bots, 64):
        open_now: list[socket.socket] = []
        for place in places[first : first + 64]:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.connect_ex(place)
            open_now.append(sock)
        for request in asked:
            for sock in open_now:
                sock.send(request)
            for sock in open_now:
                while True:
                    try:
                        assert sock.recv(65536)
                        break
                    except BlockingIOError:
                        time.sleep(0.0005)
        for sock in open_now:
            sock.close()
    return (time.process_time() - started) / bots * 1e6


async def until(session: aiohttp.ClientSession, url: str) -> None:
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
class Watched:
    """An exporter being measured."""

    pid: int
    url: str
    session: aiohttp.ClientSession

    async def own(self) -> dict[str, float]:
        """The exporter's own series on an otherwise empty page, summed over labels."""
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
        """Until there have been as many probes as bots; for a minute at most, where others are at work."""
        await until(self.session, self.url + "/-/ready")
        for _ in range(60):
            if (await self.own())["bot_fleet_probes_total"] >= bots:
                return
            await asyncio.sleep(1)

    async def over(self, seconds: float) -> dict[str, float]:
        """What happened in so many seconds: probes, failures, CPU seconds, share on time."""
        first, cpu, start = await self.own(), cpu_seconds(self.pid), time.perf_counter()
        await asyncio.sleep(seconds)
        last, used = await self.own(), cpu_seconds(self.pid) - cpu

        def grown(name: str) -> float:
            return last[name] - first[name]

        lag = "bot_exporter_schedule_lag_seconds"
        return {
            "seconds": time.perf_counter() - start,
            "probes": grown("bot_fleet_probes_total"),
            "failures": grown("bot_fleet_probe_failures_total"),
            "cpu": used,
            "on_time": grown(f"{lag}_bucket_0.05") / max(1, grown(f"{lag}_count")),
        }


@contextmanager
def exporter(
    folder: Path, session: aiohttp.ClientSession, bots: int, interval: str, *flags: str
) -> Iterator[Watched]:
    path = folder / f"bots-{bots}.json"
    if not path.exists():
        write_targets(path, bots)
    argv = (sys.executable, "-m", "exporter", "--targets.file", path, "--probe.interval", interval)
    listen = f"127.0.0.1:{free_port()}"
    more = ("--web.listen-address", listen, "--log.level", "error", *flags)
    with running(CLIENT_CORE, *argv, *more) as process:
        yield Watched(process.pid, f"http://{listen}", session)


async def scrape_ms(watched: Watched) -> tuple[float, float, int]:
    """Median time of a whole gzipped scrape, the longest it held up anything else, and its size."""
    times: list[float] = []
    delays: list[float] = []
    size = 0
    done = asyncio.Event()

    async def ping() -> None:
        while not done.is_set():
            start = time.perf_counter()
            async with watched.session.get(watched.url + "/-/healthy"):
                delays.append(time.perf_counter() - start)

    pinging = asyncio.create_task(ping())
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for _ in range(15):
            await asyncio.sleep(0.5)
            start = time.perf_counter()
            async with session.get(watched.url + "/metrics", headers=GZIP) as response:
                times.append(time.perf_counter() - start)
                size = len(await response.read())
    done.set()
    await pinging
    delays.sort()
    return sorted(times)[len(times) // 2] * 1000, delays[int(len(delays) * 0.999)] * 1000, size


async def cpu_us(
    options: argparse.Namespace, folder: Path, session: aiohttp.ClientSession
) -> tuple[dict[str, float], dict[str, float]]:
    """CPU a bot of each contestant in one round, in µs, and what the exporter did flat out."""
    used = {"blackbox": await blackbox_us(folder, session, options.blackbox_bots)}
    used["wrk"] = wrk_us(2)
    used["sockets"] = sockets_us(options.blackbox_bots)
    over_aiohttp = ("--probe.transport", "aiohttp", "--probe.max-in-flight", "64")
    with exporter(folder, session, 8000, "5s", *over_aiohttp) as watched:
        await watched.warm(3000)
        seen = await watched.over(options.seconds)
        used["aiohttp"] = seen["cpu"] / seen["probes"] * 1e6
    with exporter(folder, session, options.bots, "6s") as watched:
        await watched.warm(options.bots)
        flat_out = await watched.over(options.seconds)
        used["fast"] = flat_out["cpu"] / flat_out["probes"] * 1e6
    say(", ".join(f"{name} {value:.1f}" for name, value in used.items()) + " µs a bot")
    return used, flat_out


async def against_rivals(
    options: argparse.Namespace, folder: Path, session: aiohttp.ClientSession
) -> dict[str, float]:
    rounds = [await cpu_us(options, folder, session) for _ in range(options.rounds)]

    def over(name: str, rival: str) -> float:
        return statistics.median(used[name] / used[rival] for used, _ in rounds)

    fast = statistics.median(used["fast"] for used, _ in rounds)
    return {
        "cpu_vs_blackbox": round(over("fast", "blackbox"), 4),
        "cpu_vs_blackbox_aiohttp": round(over("aiohttp", "blackbox"), 4),
        "cpu_vs_wrk": round(over("fast", "wrk"), 2),
        "cpu_vs_sockets": round(over("fast", "sockets"), 2),
        "bots_per_minute_core": round(60e6 / fast),
        "flat_out_share": round(statistics.median(seen["cpu"] / seen["seconds"] for _, seen in rounds), 3),
        "false_failures": sum(seen["failures"] for _, seen in rounds),
    }


async def whole_fleet(
    options: argparse.Namespace, folder: Path, session: aiohttp.ClientSession
) -> dict[str, float]:
    """A bot a minute each: cost, punctuality, scrapes and memory."""
    result: dict[str, float] = {}
    with exporter(folder, session, 0, "60s") as watched:
        await until(session, watched.url + "/-/ready")
        empty = rss_bytes(watched.pid)
    started = time.perf_counter()
    with exporter(folder, session, options.bots, "60s") as watched:
        await until(session, watched.url + "/-/ready")
        result["ready_s"] = round(time.perf_counter() - started, 2)
        await asyncio.sleep(62)
        seen = await watched.over(options.seconds * 4)
        result["core_share_50k"] = round(seen["cpu"] / seen["probes"] * options.bots / 60, 4)
        result["on_time"] = round(seen["on_time"], 5)
        result["false_failures_steady"] = seen["failures"]
        took, delay, size = await scrape_ms(watched)
        result["scrape_50k_ms"], result["scrape_probe_delay_ms"] = round(took, 2), round(delay, 2)
        say(f"steady {seen['cpu'] / seen['probes'] * 1e6:.0f} µs a bot, a scrape is {size / 1e6:.1f} MB")
        # A bot's history is full after four turns; only from then on is growth a drift.
        await asyncio.sleep(min(max(options.drift_minutes - 1, 0), 3) * 60)
        first = rss_bytes(watched.pid)
        result["bytes_per_bot"] = round((first - empty) / options.bots)
        await asyncio.sleep(options.drift_minutes * 60)
        result["rss_drift"] = round(rss_bytes(watched.pid) / first - 1, 4)
    return result


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    os.sched_setaffinity(0, {FLEET_CORE})
    result: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        with fleet(folder):
            if "rivals" in options.parts:
                result |= await against_rivals(options, folder, session)
            if "fleet" in options.parts:
                result |= await whole_fleet(options, folder, session)
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
    parser.add_argument("--drift-minutes", type=float, default=1, help="to watch memory; 20 for the goal")
    parser.add_argument("--sockets", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sockets:
        say(str(bare_sockets(options.sockets)))
        return
    with tempfile.TemporaryDirectory() as folder:
        say(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
