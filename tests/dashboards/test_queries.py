"""Every panel's query, asked of a real Prometheus: what a parser lets through, its engine may not."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from dashboards.__main__ import GENERATED as FOLDER
from dashboards.__main__ import ROOT
from sandbox.process import binaries
from sandbox.process.processes import Process, answers, free_port

GENERATED = ROOT / FOLDER


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a Prometheus that scrapes nothing."""
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    url = f"http://127.0.0.1:{free_port()}"
    process = Process(
        [
            binaries.find("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
        log=tmp_path / "prometheus.log",
        ready=answers(f"{url}/-/ready"),
    )
    async with process:
        yield url


def as_sent(expression: str, bot: str) -> str:
    """Return the expression as Grafana sends it, with All or with two values chosen."""
    chosen = {"__rate_interval": "1m", "__range": "3h", "environment": ".*", "template": "(a|b)", "bot": bot}
    return re.sub(r"\$(\w+)", lambda match: chosen[match[1]], expression)


@pytest.mark.parametrize("bot", [".*", "(forge|anvil-2)"])
async def test_prometheus_understands_every_panel(prometheus: str, bot: str) -> None:
    refused: list[str] = []
    async with aiohttp.ClientSession() as session:
        for path in sorted(GENERATED.glob("*.json")):
            for panel in json.loads(path.read_text())["panels"]:
                for target in panel.get("targets", []):
                    query = {"query": as_sent(target["expr"], bot)}
                    async with session.post(f"{prometheus}/api/v1/query", data=query) as response:
                        answer = await response.json()
                    if answer["status"] != "success":
                        refused.append(f"{path.name}, {panel['title']}: {answer['error']}")
    assert refused == []


async def test_variables_offer_what_the_exporter_knows(prometheus: str) -> None:
    """`label_values(SERIES, LABEL)` is Grafana's own; inside are a selector and a label."""
    async with aiohttp.ClientSession() as session:
        for path in sorted(GENERATED.glob("*.json")):
            for variable in json.loads(path.read_text())["templating"]["list"]:
                if variable["type"] == "query":
                    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                    assert match is not None
                    selector = {"match[]": as_sent(match[1], ".*")}
                    url = f"{prometheus}/api/v1/label/{match[2]}/values"
                    async with session.get(url, params=selector) as response:
                        assert (await response.json())["status"] == "success"
                    assert match[2] == variable["name"]
