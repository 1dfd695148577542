"""What a scrape of the exporter gets: codings, formats, pages, and all of it."""

import asyncio
import json
import re
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from sandbox.process import binaries
from tests.exporter.test_exporter_process import LIVE, HttpBot, WaitUntil, write

PROMETHEUS = {"User-Agent": "Prometheus/3.5.3"}


async def test_a_scrape_may_be_gzipped_openmetrics_and_in_pages(
    run_exporter: Any, tmp_path: Path, wait_until: WaitUntil
) -> None:
    path = tmp_path / "bots.json"
    names = {f"bot-{n}" for n in range(40)}
    write(path, **dict.fromkeys(names, "127.0.0.1:1"))
    async with run_exporter("--targets.file", str(path), "--probe.interval", "1h") as exporter:

        async def known() -> bool:
            return bool((await exporter.get("/metrics"))[1].count("bot_info{") == 40)

        await wait_until(known)
        async with aiohttp.ClientSession() as session:
            accept = {"Accept": "application/openmetrics-text"} | PROMETHEUS
            async with session.get(exporter.url + "/metrics", headers=accept) as response:
                text = await response.text()
                assert response.headers["Content-Encoding"] == "gzip"
                assert response.content_type == "application/openmetrics-text"
        assert list(parse_open_metrics(text))  # type: ignore[no-untyped-call]
        pages = json.loads((await exporter.get("/sd?of=4"))[1])
        assert len(pages) == 4
        listed: list[str] = []
        for page in pages:
            labels = page["labels"]
            query = f"page={labels['__param_page']}&of={labels['__param_of']}"
            _, text = await exporter.get(f"{labels['__metrics_path__']}?{query}")
            listed += re.findall(r'bot_info{bot="([^"]+)"', text)
            assert ("process_cpu_seconds_total" in text) == (labels["__param_page"] == "1")
        assert sorted(listed) == sorted(names)
        for query in ("page=0", "page=2", "page=x&of=4", "page=1&of=3", "of=9999999"):
            assert (await exporter.get(f"/metrics?{query}"))[0] == 400


@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_a_scrape_that_is_written_piece_by_piece_is_whole(
    run_exporter: Any, tmp_path: Path, http_bot: HttpBot, wait_until: WaitUntil, coding: str
) -> None:
    """Bots that tell all they can fill more pieces than are put together in one go."""
    facts = {"boot_id": "b", "config_sha": "c", "context_usage": 0.5, "peers": [{"up": True}]}
    usage = {"usage": {"requests": 1, "input_tokens": 2, "output_tokens": 3}}
    body = json.dumps(facts | usage).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    address = await http_bot({"/health": answer, "/mesh": answer})
    path = tmp_path / "bots.json"
    names = {f"bot-{n}" for n in range(100)}
    write(path, **dict.fromkeys(names, address))
    headers = {"Accept-Encoding": coding} | PROMETHEUS
    async with (
        run_exporter("--targets.file", str(path), "--probe.interval", "1s") as exporter,
        aiohttp.ClientSession() as session,
    ):

        async def scrape() -> tuple[str, str]:
            async with session.get(exporter.url + "/metrics", headers=headers) as response:
                return response.headers.get("Transfer-Encoding", ""), await response.text()

        async def all_up() -> bool:
            return (await scrape())[1].count("bot_usage_requests_total{") == 100

        await wait_until(all_up)
        transfer, text = await scrape()
    assert transfer == "chunked"
    samples = {family.name: family.samples for family in text_string_to_metric_families(text)}
    for name in ("bot_up", "bot_info", "bot_restarts", "bot_usage_output_tokens", "bot_mesh_peers_up_ratio"):
        assert {sample.labels["bot"] for sample in samples[name]} == names
    assert samples["bot_exporter_targets"][0].value == 100


@pytest.mark.parametrize("agent", ["curl/8.14.1", "Mozilla/5.0 Chrome/140.0", "python-requests/2"])
async def test_the_metrics_are_whole_for_clients_that_read_one_gzip_member(
    run_exporter: Any, tmp_path: Path, wait_until: WaitUntil, agent: str
) -> None:
    path = tmp_path / "bots.json"
    write(path, forge="127.0.0.1:1", muse="127.0.0.1:1")
    headers = {"User-Agent": agent, "Accept-Encoding": "gzip, deflate, br"}
    flags = ("--targets.file", str(path), "--probe.interval", "100ms")
    async with (
        run_exporter(*flags) as exporter,
        aiohttp.ClientSession(auto_decompress=False, headers=headers) as session,
    ):

        async def probed() -> bool:
            return bool((await exporter.get("/metrics"))[1].count("bot_up{") == 2)

        await wait_until(probed)
        async with session.get(exporter.url + "/metrics") as response:
            raw, coding = await response.read(), response.headers.get("Content-Encoding", "identity")
            assert "User-Agent" in response.headers["Vary"]
        if coding == "gzip":
            one = zlib.decompressobj(31)
            raw = one.decompress(raw)
            assert one.eof
        text = raw.decode()
        assert text.count("bot_up{") == 2
        assert "bot_exporter_build_info" in text
        async with session.head(exporter.url + "/metrics") as response:
            assert (response.status, await response.read()) == (200, b"")


async def test_promtool_finds_no_fault_in_the_metrics(
    run_exporter: Any, tmp_path: Path, http_bot: HttpBot, wait_until: WaitUntil
) -> None:
    path = tmp_path / "bots.json"
    write(path, forge=await http_bot({"/health": LIVE, "/mesh": LIVE}), muse="127.0.0.1:1")
    promtool = await asyncio.to_thread(binaries.find, "promtool")
    async with run_exporter("--targets.file", str(path), "--probe.interval", "100ms") as exporter:

        async def probed() -> bool:
            return bool((await exporter.get("/metrics"))[1].count("bot_up{") == 2)

        await wait_until(probed)
        _, text = await exporter.get("/metrics")
    pipe = asyncio.subprocess.PIPE
    check = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=pipe, stderr=pipe)
    _, complaints = await asyncio.wait_for(check.communicate(text.encode()), 30)
    assert (check.returncode, complaints) == (0, b"")
