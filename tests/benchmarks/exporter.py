"""The exporter against blackbox_exporter and wrk, on loopback, in one run: `make bench BENCH=exporter`.

The fleet is nginx on one core, whatever is measured has the other to itself. CPU is what the kernel counts
for the process. The last line is a JSON object.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import signal
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
    with running(FLEET_CORE, nginx, "-c", folder / "nginx.conf", "-p", folder):
        time.sleep(1)
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
    url = "http://127.0.0.1:29115"
    flags = ("--config.file", folder / "blackbox.yml", "--web.listen-address", "127.0.0.1:29115")
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
    """CPU of wrk for two GETs over a connection that stays open: the floor, in µs."""
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
    listen = ("--web.listen-address", "127.0.0.1:29817", "--log.level", "error")
    with running(CLIENT_CORE, *argv, *listen, *flags) as process:
        yield Watched(process.pid, "http://127.0.0.1:29817", session)


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


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    os.sched_setaffinity(0, {FLEET_CORE})
    result: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        with fleet(folder):
            blackbox = await blackbox_us(folder, session, options.blackbox_bots)
            wrk = wrk_us(5)
            say(f"blackbox_exporter {blackbox:.0f} µs a bot, wrk {wrk:.1f} µs")

            with exporter(folder, session, 0, "60s") as watched:
                await until(session, watched.url + "/-/ready")
                empty = rss_bytes(watched.pid)

            with exporter(folder, session, 5000, "12s", "--probe.transport", "aiohttp") as watched:
                await until(session, watched.url + "/-/ready")
                await asyncio.sleep(3)
                seen = await watched.over(options.seconds)
                slow = seen["cpu"] / seen["probes"] * 1e6
                say(f"over aiohttp {slow:.0f} µs a bot")

            with exporter(folder, session, options.bots, "5s") as watched:
                await until(session, watched.url + "/-/ready")
                await asyncio.sleep(7)
                seen = await watched.over(options.seconds)
                result["bots_per_minute_core"] = round(seen["probes"] / seen["seconds"] * 60)
                result["false_failures"] = seen["failures"]
                fast = seen["cpu"] / seen["probes"] * 1e6
                say(f"flat out {fast:.0f} µs a bot, {seen['probes'] / seen['seconds']:.0f} bots a second")

            started = time.perf_counter()
            with exporter(folder, session, options.bots, "60s") as watched:
                await until(session, watched.url + "/-/ready")
                result["ready_s"] = round(time.perf_counter() - started, 2)
                await asyncio.sleep(62)
                seen = await watched.over(options.seconds * 2)
                result["core_share_50k"] = round(seen["cpu"] / seen["seconds"], 4)
                result["on_time"] = round(seen["on_time"], 5)
                steady = seen["cpu"] / seen["probes"] * 1e6
                took, delay, size = await scrape_ms(watched)
                result["scrape_50k_ms"], result["scrape_probe_delay_ms"] = round(took, 2), round(delay, 2)
                # A bot's history is full after four turns; only from then on is growth a drift.
                await asyncio.sleep(min(max(options.drift_minutes - 1, 0), 3) * 60)
                first = rss_bytes(watched.pid)
                result["bytes_per_bot"] = round((first - empty) / options.bots)
                await asyncio.sleep(options.drift_minutes * 60)
                result["rss_drift"] = round(rss_bytes(watched.pid) / first - 1, 4)
                say(f"steady {steady:.0f} µs a bot, a scrape is {size / 1e6:.1f} MB")
    result["cpu_vs_blackbox"] = round(fast / blackbox, 4)
    result["cpu_vs_blackbox_steady"] = round(steady / blackbox, 4)
    result["cpu_vs_blackbox_aiohttp"] = round(slow / blackbox, 4)
    result["cpu_vs_wrk"] = round(fast / wrk, 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=50_000)
    parser.add_argument("--blackbox-bots", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--drift-minutes", type=float, default=1, help="to watch memory; 20 for the goal")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        say(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
