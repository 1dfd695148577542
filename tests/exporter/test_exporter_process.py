"""The exporter as a process: its command line, its HTTP, its signals."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.settings import parse_settings
from exporter.targets import Target

HttpBot = Callable[[dict[str, bytes]], Awaitable[str]]
WaitUntil = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]

LIVE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


def cli(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", *flags], capture_output=True, text=True, timeout=60, check=False
    )


def write(path: Path, **bots: str) -> None:
    groups = [{"targets": [address], "labels": {"bot": bot}} for bot, address in bots.items()]
    path.write_text(json.dumps(groups))


def test_help_names_every_flag_with_its_default() -> None:
    done = cli("--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for flag in ("--targets.file", "--targets.url-token-file", "--web.listen-address", "--score.critical"):
        assert flag in text
    for default in ("127.0.0.1:9817", "60s", "10s", "500ms"):
        assert f"(default: {default})" in text


def test_version_is_told() -> None:
    assert cli("--version").stdout.startswith("bot-exporter ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--targets.file", "--targets.url"]),
        (["--targets.url", "ftp://x"], ["--targets.url", "ftp://x", "http://HOST"]),
        (["--targets.file", "x", "--probe.interval", "soon"], ["--probe.interval", "soon", "60s"]),
        (["--targets.file", "x", "--probe.interval", "1ms"], ["--probe.interval", "100ms"]),
        (["--targets.file", "x", "--probe.template-interval", "30s"], ["TEMPLATE=INTERVAL"]),
        (["--targets.file", "x", "--probe.template-interval", "support=1ms"], ["template-interval", "100ms"]),
        (["--targets.file", "x", "--probe.timeout", "-1s"], ["--probe.timeout"]),
        (["--targets.file", "x", "--probe.max-in-flight", "many"], ["--probe.max-in-flight", "many"]),
        (["--targets.file", "x", "--score.low", "101"], ["--score.low", "101", "0 to 100"]),
        (["--targets.file", "x", "--score.low", "10"], ["--score.critical", "--score.low"]),
        (["--targets.file", "x", "--score.streak", "0"], ["--score.streak"]),
        (["--targets.file", "x", "--score.latency-full", "9s"], ["--score.latency-zero"]),
        (["--targets.file", "x", "--web.listen-address", "9817"], ["--web.listen-address", "HOST:PORT"]),
        (["--targets.file", "x", "--log.level", "loud"], ["--log.level", "loud"]),
        (["--targets.file", "x", "--targets.url-token-file", "t"], ["--targets.url-token-file"]),
        (["--target.file", "x"], ["--target.file"]),
        (["--targets.file", "x", "--shard", "2", "--total-shards", "2"], ["--shard", "--total-shards"]),
        (["--targets.file", "x", "--shard", "first"], ["--shard", "first"]),
    ],
)
def test_a_bad_flag_is_named_with_its_remedy(
    flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(flags)
    assert ended.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(word in message for word in words), message


def test_a_bot_has_its_own_interval_else_its_templates_else_everyones() -> None:
    flags = ("--probe.template-interval", "support=30s", "--probe.template-interval", "manager=2m")
    settings = parse_settings(["--targets.file", "x", "--probe.interval", "1m", *flags])
    target = Target("forge", "127.0.0.1:1", template="support")
    assert settings.interval_of(replace(target, interval=5)) == 5
    assert settings.interval_of(target) == 30
    assert settings.interval_of(replace(target, template="manager")) == 120
    assert settings.interval_of(replace(target, template="designer")) == 60


def test_a_bad_flag_ends_the_process_with_status_2() -> None:
    done = cli("--targets.file", "x", "--probe.timeout", "soon")
    assert done.returncode == 2
    assert "--probe.timeout" in done.stderr


def test_a_ca_file_that_is_missing_ends_it_with_a_reason(tmp_path: Path) -> None:
    done = cli("--targets.file", "x", "--probe.tls-ca-file", str(tmp_path / "no.pem"))
    assert done.returncode == 1
    assert "no.pem" in done.stderr


async def test_an_address_in_use_ends_it_with_a_reason(run_exporter: Any, tmp_path: Path) -> None:
    write(tmp_path / "bots.json")
    async with run_exporter("--targets.file", str(tmp_path / "bots.json")) as exporter:
        address = exporter.url.removeprefix("http://")
        done = await asyncio.to_thread(cli, "--targets.file", "x", "--web.listen-address", address)
    assert done.returncode == 1
    assert "address already in use" in done.stderr


async def test_bots_come_change_and_vanish_with_their_file(
    run_exporter: Any, tmp_path: Path, http_bot: HttpBot, wait_until: WaitUntil
) -> None:
    path = tmp_path / "bots.json"
    well = await http_bot({"/health": LIVE, "/mesh": LIVE})
    write(path, forge=well, muse="127.0.0.1:1")
    flags = ("--targets.file", str(path), "--targets.refresh", "100ms", "--probe.interval", "200ms")
    async with run_exporter(*flags) as exporter:

        def shows(*lines: str) -> Callable[[], Awaitable[bool]]:
            async def lines_are_shown() -> bool:
                _, text = await exporter.get("/metrics")
                return all(line in text for line in lines)

            return lines_are_shown

        await wait_until(
            shows(
                'bot_up{bot="forge"} 1\n',
                'bot_health_score{bot="forge"} 100\n',
                'bot_up{bot="muse"} 0\n',
                'bot_health_score{bot="muse"} 0\n',
                "bot_exporter_targets 2.0\n",
            )
        )
        write(path, forge=well)
        await wait_until(shows("bot_exporter_targets 1.0\n"))
        _, text = await exporter.get("/metrics")
        assert "muse" not in text
        path.write_text("[{")
        await wait_until(shows("bot_exporter_config_last_reload_successful 0.0\n", 'bot_up{bot="forge"} 1\n'))
        assert list(text_string_to_metric_families(text))
        assert await exporter.stop() == 0
    log = exporter.log.read_text()
    assert 'event="bot failing" bot=muse endpoint=health reason=connect_refused' in log
    assert log.count("targets not read") == 1, "a file that stays broken is told once"


async def test_reload_by_post_and_by_sighup(run_exporter: Any, tmp_path: Path, wait_until: WaitUntil) -> None:
    path = tmp_path / "bots.json"
    write(path, forge="127.0.0.1:1")
    async with run_exporter("--targets.file", str(path), "--targets.refresh", "1h") as exporter:

        async def ready() -> bool:
            return bool((await exporter.get("/-/ready"))[0] == 200)

        await wait_until(ready)
        write(path, forge="127.0.0.1:1", muse="127.0.0.1:1")
        assert await exporter.post("/-/reload") == (200, "loaded 2 bots\n")
        groups = [{"targets": [a], "labels": {"bot": b}} for a, b in (("nowhere", "forge"), ("a:1", "muse"))]
        path.write_text(json.dumps(groups))
        status, text = await exporter.post("/-/reload")
        assert status == 500
        assert text.startswith("loaded 1 bots\nrefused 1 targets:\n")
        metrics = (await exporter.get("/metrics"))[1]
        assert "bot_exporter_targets_invalid 1.0\n" in metrics
        assert "bot_exporter_targets 1.0\n" in metrics
        assert f"{path}: group 0: targets: 'nowhere' is no address" in text
        assert (await exporter.get("/-/reload"))[0] == 405
        write(path, atlas="127.0.0.1:1")
        exporter.process.send_signal(signal.SIGHUP)

        async def reloaded() -> bool:
            return 'bot="atlas"' in (await exporter.get("/metrics"))[1]

        await wait_until(reloaded)


async def test_a_service_that_goes_down_keeps_its_bots_and_the_metric_says_so(
    run_exporter: Any, wait_until: WaitUntil
) -> None:
    groups = json.dumps([{"targets": ["127.0.0.1:1"], "labels": {"bot": "forge"}}]).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(groups))
        writer.write(groups)
        await writer.drain()
        writer.close()

    service = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{service.sockets[0].getsockname()[1]}/sd"
    async with run_exporter("--targets.url", url, "--targets.refresh", "100ms") as exporter:

        async def says(successful: int) -> bool:
            _, text = await exporter.get("/metrics")
            line = f"bot_exporter_config_last_reload_successful {successful}.0\n"
            return 'bot_info{bot="forge"' in text and line in text

        await wait_until(lambda: says(1))
        service.close()
        await service.wait_closed()
        await wait_until(lambda: says(0))
        assert (await exporter.get("/-/ready"))[0] == 200
    assert f"place={url}" in exporter.log.read_text()


async def test_a_fleet_too_large_for_its_descriptors_is_told_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "bots.json"
    write(path, **{f"bot-{n}": "127.0.0.1:1" for n in range(300)})
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", 'ulimit -n 200 && exec "$0" "$@"', sys.executable, "-m", "exporter",
        "--targets.file", str(path), "--probe.interval", "20s", "--web.listen-address", "127.0.0.1:0",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b"too few file descriptors" not in (line := await process.stderr.readline()):
                assert line, "it ended"
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 20)
    assert b"set LimitNOFILE=428 in the unit" in line


async def test_it_is_ready_once_targets_were_read(
    run_exporter: Any, tmp_path: Path, wait_until: WaitUntil
) -> None:
    path = tmp_path / "bots.json"
    async with run_exporter("--targets.file", str(path), "--targets.refresh", "50ms") as exporter:
        assert (await exporter.get("/-/healthy"))[0] == 200
        assert (await exporter.get("/-/ready"))[0] == 503
        write(path)

        async def ready() -> bool:
            return bool((await exporter.get("/-/ready"))[0] == 200)

        await wait_until(ready)


async def test_a_person_can_ask_why(
    run_exporter: Any, tmp_path: Path, http_bot: HttpBot, wait_until: WaitUntil
) -> None:
    path = tmp_path / "bots.json"
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<openclaw-app>"
    write(path, forge=await http_bot({"/health": LIVE, "/mesh": page}))
    async with run_exporter("--targets.file", str(path), "--probe.interval", "1h") as exporter:

        async def known() -> bool:
            return 'bot="forge"' in (await exporter.get("/metrics"))[1]

        await wait_until(known)
        status, text = await exporter.get("/probe?bot=forge&debug=true")
        assert status == 200
        for words in ("GET http://127.0.0.1:", "same connection", "bad_payload: answered the web page"):
            assert words in text
        assert "score 80: health 30, mesh 0, latency 20, streak 30" in text
        assert "not yet probed in its turn" in text
        status, text = await exporter.get("/probe?bot=forge")
        assert 'bot_up{bot="forge"} 1\n' in text
        assert list(text_string_to_metric_families(text))
        assert "bot_up{" not in (await exporter.get("/metrics"))[1], "asking does not count as a probe"
        assert (await exporter.get("/probe"))[0] == 400
        assert (await exporter.get("/probe?bot=forge&debug=maybe"))[0] == 400
        status, text = await exporter.get("/probe?bot=127.0.0.1:22")
        assert status == 404
        assert "target list" in text
        status, text = await exporter.get("/")
        assert status == 200
        assert '<a href="/metrics">' in text
        assert "/probe?bot=forge&amp;debug=true" in text


async def test_colon_and_port_is_every_address_of_ipv4_and_ipv6(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    (tmp_path / "bots.json").write_text("[]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exporter", "--targets.file", str(tmp_path / "bots.json"),
        "--web.listen-address", f":{port}", stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:

        async def answers() -> bool:
            try:
                return [await status_of(host, port) for host in hosts] == [200] * len(hosts)
            except aiohttp.ClientConnectorError:
                return False

        hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        await wait_until(answers)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def status_of(host: str, port: int) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/-/healthy") as response:
        return response.status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "exporter.internal:9817"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example:9817", "Host": "evil.example:9817"}, 403),
        ({"Origin": "http://127.0.0.1:9817", "Host": "127.0.0.1:9817"}, 200),
        ({"Origin": "http://localhost:9817", "Host": "localhost:9817"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
    ],
)
async def test_no_page_of_another_site_reloads_and_prometheus_scrapes_by_any_name(
    run_exporter: Any, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    path = tmp_path / "bots.json"
    write(path)
    async with run_exporter("--targets.file", str(path)) as exporter, aiohttp.ClientSession() as session:
        for method in ("POST", "PUT"):
            async with session.request(method, exporter.url + "/-/reload", headers=headers) as response:
                assert response.status == status
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        for asked in ({"Host": "any.name.example"}, link):
            async with session.get(exporter.url + "/metrics", headers=asked) as response:
                assert response.status == 200
        image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        async with session.get(exporter.url + "/probe?bot=forge", headers=image) as response:
            assert response.status == 403


async def test_shards_share_the_fleet(run_exporter: Any, tmp_path: Path, wait_until: WaitUntil) -> None:
    path = tmp_path / "bots.json"
    names = {f"bot-{n}" for n in range(20)}
    write(path, **dict.fromkeys(names, "127.0.0.1:1"))
    listed: list[str] = []
    for shard in ("0", "1"):
        flags = ("--targets.file", str(path), "--shard", shard, "--total-shards", "2")
        async with run_exporter(*flags) as exporter:

            async def known(exporter: Any = exporter) -> bool:
                return "bot_info{" in (await exporter.get("/metrics"))[1]

            await wait_until(known)
            _, text = await exporter.get("/metrics")
            assert f"bot_exporter_shard {shard}.0\n" in text
            listed += re.findall(r'bot_info{bot="([^"]+)"', text)
            absent = min(names.difference(listed), default="none")
            if shard == "0":
                assert await exporter.get(f"/probe?bot={absent}") == (
                    404,
                    f"bot '{absent}' is not known here: if it is a target, shard 1 of 2 watches it\n",
                )
    assert sorted(listed) == sorted(names)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_gracefully_in_the_middle_of_probes(
    run_exporter: Any,
    raw_bot: Callable[[Any], Awaitable[str]],
    tmp_path: Path,
    wait_until: WaitUntil,
    number: signal.Signals,
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    path = tmp_path / "bots.json"
    write(path, forge=await raw_bot(hang))
    flags = ("--targets.file", str(path), "--probe.interval", "100ms", "--probe.timeout", "1h")
    async with run_exporter(*flags) as exporter:

        async def in_flight() -> bool:
            return "bot_exporter_probes_in_flight 1.0\n" in (await exporter.get("/metrics"))[1]

        await wait_until(in_flight)
        os.kill(exporter.process.pid, number)
        assert await asyncio.wait_for(exporter.process.wait(), 20) == 0
    log = exporter.log.read_text()
    assert "event=stopping" in log
    assert "Traceback" not in log


async def test_json_logs_are_one_object_a_line(run_exporter: Any, tmp_path: Path) -> None:
    path = tmp_path / "bots.json"
    write(path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exporter", "--targets.file", str(path), "--log.format", "json",
        "--web.listen-address", "127.0.0.1:0", stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        event = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
    finally:
        process.terminate()
        _, rest = await asyncio.wait_for(process.communicate(), 20)
    assert (event["event"], event["level"]) == ("listening", "info")
    assert all(json.loads(line) for line in rest.splitlines())
