"""Who hears of what: the real amtool, and a real Alertmanager for what amtool cannot tell."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from sandbox.process import binaries
from sandbox.process.processes import Process, answers, free_port

BOT = {"bot": "forge-1", "environment": "production", "template": "tool-builder"}
MILDER = ("BotFailurePredicted", "BotLatencyHigh", "BotFlapping", "BotHealthAnomalous")
Labels = dict[str, str]


def test_amtool_accepts_the_configuration(amtool: Any, alerts: Path) -> None:
    assert "SUCCESS" in amtool("check-config", alerts / "alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (
            {"alertname": "BotHealthScoreCritical", "severity": "critical", "remediation": "auto"} | BOT,
            "remediator,people",
        ),
        ({"alertname": "BotDown", "severity": "critical", "remediation": "auto"} | BOT, "remediator,people"),
        (
            {"alertname": "BotDeaf", "severity": "critical", "remediation": "auto", "symptom": "deaf"} | BOT,
            "remediator,people",
        ),
        ({"alertname": "BotModelGone", "severity": "critical", "symptom": "mute"} | BOT, "pager"),
        ({"alertname": "BotProviderFailing", "severity": "critical", "symptom": "mute"} | BOT, "pager"),
        ({"alertname": "BotDependencyDown", "severity": "critical", "symptom": "mute"}, "pager"),
        ({"alertname": "BotHealthScoreLow", "severity": "warning"} | BOT, "people"),
        ({"alertname": "BotProbeStale", "severity": "warning"} | BOT, "people"),
        ({"alertname": "BotRemediationFailed", "severity": "warning", "tier": "reboot"}, "people"),
        ({"alertname": "BotRemediationEscalated", "severity": "critical"} | BOT, "pager"),
        ({"alertname": "BotFleetOutage", "severity": "critical"}, "pager"),
        ({"alertname": "BotExporterAbsent", "severity": "critical"}, "pager"),
        ({"alertname": "BotRemediatorDown", "severity": "critical"}, "pager"),
        ({"alertname": "BotFailurePredicted", "severity": "warning"} | BOT, "people"),
        ({"alertname": "BotHealthAnomalous", "severity": "info"} | BOT, "people"),
        ({"alertname": "BotErrorBudgetBurnFast", "severity": "critical"}, "pager"),
        ({"alertname": "BotErrorBudgetBurnSlow", "severity": "warning", "template": "support"}, "people"),
        ({"alertname": "BotRemediationUnacknowledged", "severity": "critical"} | BOT, "pager"),
        ({"alertname": "BotExporterShardMissing", "severity": "critical"}, "pager"),
        ({"alertname": "Watchdog", "severity": "info"}, "watchdog"),
        ({"alertname": "Somebodyelses"}, "people"),
    ],
    ids=lambda value: value["alertname"] if isinstance(value, dict) else "",
)
def test_an_alert_reaches(amtool: Any, alerts: Path, labels: Labels, receivers: str) -> None:
    config = alerts / "alertmanager.yml"
    printed = amtool(
        "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receivers}",
        *(f"{name}={value}" for name, value in labels.items()),
    )  # fmt: skip
    assert printed.split()[0] == receivers


def test_every_alert_is_routed_by_the_labels_it_really_has(
    amtool: Any, alerts: Path, alerting: list[dict[str, Any]]
) -> None:
    """Whatever is critical reaches the remediator or the pager, and nothing else reaches the remediator."""
    for rule in alerting:
        labels = {"alertname": rule["alert"], **rule["labels"]}
        printed = amtool(
            "config", "routes", "test", f"--config.file={alerts / 'alertmanager.yml'}",
            *(f"{name}={value}" for name, value in labels.items()),
        ).split()[0]  # fmt: skip
        if labels.get("remediation") == "auto":
            assert printed == "remediator,people"
        elif rule["alert"] == "Watchdog":
            assert printed == "watchdog"
        else:
            assert printed == ("pager" if labels["severity"] == "critical" else "people")


def test_timing_is_chosen_for_recovery(alerts: Path) -> None:
    config = yaml.safe_load((alerts / "alertmanager.yml").read_text())
    (route,) = (route for route in config["route"]["routes"] if route["receiver"] == "remediator")
    assert route["group_by"] == ["bot"]
    assert route["continue"] is True
    assert route["group_wait"] == "30s", "an outage must be known before single bots go out"
    assert route["repeat_interval"] == "2m", "a relapse between two flushes is delivered by the repeat only"


def test_no_payload_is_truncated_and_no_secret_is_in_the_file(alerts: Path) -> None:
    config = yaml.safe_load((alerts / "alertmanager.yml").read_text())
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            assert webhook.get("max_alerts", 0) == 0
            assert webhook["http_config"]["authorization"] == {"credentials_file": "remediator-token"}
        for telegram in receiver.get("telegram_configs", []):
            assert telegram["bot_token"] == "TELEGRAM_BOT_TOKEN"
            assert telegram["chat_id"] == -1


# A real Alertmanager, from here on.


@dataclass
class Catcher:
    """The remediator's webhook and Telegram's API in one server."""

    webhooks: list[dict[str, Any]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def webhook(self, request: web.Request) -> web.Response:
        self.authorizations.add(request.headers.get("Authorization", ""))
        self.webhooks.append(await request.json())
        return web.Response(status=202)

    async def telegram(self, request: web.Request) -> web.Response:
        self.messages.append({"path": request.path, **await request.json()})
        return web.json_response({"ok": True, "result": {"message_id": 1, "date": 0, "chat": {"id": -1}}})

    def alerts(self) -> set[tuple[str, str]]:
        """Return (bot, alertname) of all that the webhook was sent, but the Watchdog."""
        return {
            (alert["labels"].get("bot", ""), alert["labels"]["alertname"])
            for payload in self.webhooks
            for alert in payload["alerts"]
        }


@dataclass
class Alertmanager:
    url: str
    catcher: Catcher
    session: aiohttp.ClientSession

    async def fire(self, *alerts: Mapping[str, str], **annotations: str) -> None:
        now = datetime.now(UTC)
        body = [
            {
                "labels": dict(labels),
                "annotations": annotations,
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(minutes=5)).isoformat(),
            }
            for labels in alerts
        ]
        async with self.session.post(f"{self.url}/api/v2/alerts", json=body) as response:
            assert response.status == 200, await response.text()

    async def inhibited(self) -> set[tuple[str, str]]:
        """Return (bot, alertname) of all alerts that others inhibit."""
        async with self.session.get(f"{self.url}/api/v2/alerts?silenced=true&inhibited=true") as response:
            return {
                (alert["labels"].get("bot", ""), alert["labels"]["alertname"])
                for alert in await response.json()
                if alert["status"]["inhibitedBy"]
            }


async def until(condition: Any, seconds: float = 20) -> None:
    """Poll a condition, plain or asynchronous, until it holds."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if asyncio.iscoroutine(holds) else holds:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(alerts: Path, folder: Path) -> AsyncIterator[Alertmanager]:
    """Run Alertmanager on the repository's configuration, with addresses and waits changed alone."""
    catcher = Catcher()
    app = web.Application()
    app.router.add_post("/alerts", catcher.webhook)
    app.router.add_post("/bot{token}/{method}", catcher.telegram)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]

    config = yaml.safe_load((alerts / "alertmanager.yml").read_text())
    config["global"]["telegram_api_url"] = f"http://{host}:{port}"
    for route in [config["route"], *config["route"]["routes"]]:
        route |= {"group_wait": "500ms", "group_interval": "500ms"}
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = f"http://{host}:{port}/alerts"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    (folder / "remediator-token").write_text("s3cret")

    url = f"http://127.0.0.1:{free_port()}"
    process = Process(
        [
            binaries.find("alertmanager"),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--cluster.listen-address=",
        ],
        log=folder / "alertmanager.log",
        ready=answers(f"{url}/-/ready"),
    )
    try:
        async with process, aiohttp.ClientSession() as session:
            yield Alertmanager(url, catcher, session)
    finally:
        await runner.cleanup()


def named(alertname: str, bot: str = "", **labels: str) -> Labels:
    return {"alertname": alertname, **({"bot": bot} if bot else {}), **labels}


def critical(bot: str, alertname: str = "BotHealthScoreCritical") -> Labels:
    return named(alertname, bot, severity="critical", remediation="auto")


async def test_an_outage_keeps_single_bots_from_the_remediator(alerts: Path, tmp_path: Path) -> None:
    """Once it is over, what still fires goes out."""
    async with running(alerts, tmp_path) as alertmanager:
        outage = named("BotFleetOutage", severity="critical")
        await alertmanager.fire(outage)
        await alertmanager.fire(
            critical("a"),
            critical("a", "BotDown"),
            named("BotHealthScoreLow", "b", severity="warning"),
            named("BotProbeStale", "c", severity="warning"),
            named("BotRemediationBlocked", "c", severity="warning"),
            *(named(milder, "c", severity="warning") for milder in MILDER),
            named("BotErrorBudgetBurnFast", severity="critical"),
            named("BotRemediationEscalated", "d", severity="critical"),
        )
        expected = {
            ("a", "BotHealthScoreCritical"),
            ("a", "BotDown"),
            ("b", "BotHealthScoreLow"),
            ("c", "BotProbeStale"),
            ("c", "BotRemediationBlocked"),
            *(("c", milder) for milder in MILDER),
            ("", "BotErrorBudgetBurnFast"),
        }

        async def all_inhibited() -> bool:
            return await alertmanager.inhibited() == expected

        await until(all_inhibited)
        # Both pages have gone out, so the waits of all the routes are over.
        await until(lambda: len(alertmanager.catcher.messages) >= 2)
        assert alertmanager.catcher.alerts() <= {("", "Watchdog")}

        over = datetime.now(UTC).isoformat()
        body = [{"labels": outage, "startsAt": over, "endsAt": over}]
        async with alertmanager.session.post(f"{alertmanager.url}/api/v2/alerts", json=body) as response:
            assert response.status == 200
        await until(
            lambda: alertmanager.catcher.alerts() >= {("a", "BotHealthScoreCritical"), ("a", "BotDown")}
        )
        assert alertmanager.catcher.authorizations == {"Bearer s3cret"}


async def test_the_worse_alert_of_a_bot_speaks_for_the_milder_of_that_bot_only(
    alerts: Path, tmp_path: Path
) -> None:
    async with running(alerts, tmp_path) as alertmanager:
        milder = ("BotHealthScoreLow", *MILDER)
        await alertmanager.fire(
            *(named(name, bot, severity="warning") for bot in ("a", "b", "c", "d") for name in milder),
            critical("a"),
            critical("b", "BotDown"),
            named("BotRemediationEscalated", "c", severity="critical"),
        )

        async def milder_inhibited() -> bool:
            return await alertmanager.inhibited() == {
                (bot, name) for bot in ("a", "b", "c") for name in milder
            }

        await until(milder_inhibited)


async def test_what_many_bots_need_speaks_for_each_of_them_and_a_refused_token_for_its_bot(
    alerts: Path, tmp_path: Path
) -> None:
    """An outage, and a bot that is down, speak for what does not work as well."""
    async with running(alerts, tmp_path) as alertmanager:
        mute = ("BotMute", "BotModelGone", "BotKeyRefused", "BotProviderFailing")
        await alertmanager.fire(
            named("BotDependencyDown", severity="critical", symptom="mute"),
            *(named(name, "a", severity="critical", symptom="mute") for name in mute),
            named("BotDeaf", "a", severity="critical", symptom="deaf"),
            named("BotTokenRefused", "b", severity="critical", symptom="deaf"),
            named("BotQueueStalled", "b", severity="critical", symptom="deaf"),
            named("BotDeaf", "b", severity="critical", symptom="deaf"),
            critical("c", "BotDown"),
            named("BotStuck", "c", severity="critical", symptom="stuck"),
        )
        expected = {
            *(("a", name) for name in mute),
            ("b", "BotQueueStalled"),
            ("b", "BotDeaf"),
            ("c", "BotStuck"),
        }

        async def inhibited() -> bool:
            return await alertmanager.inhibited() == expected

        await until(inhibited)
        await alertmanager.fire(named("BotFleetOutage", severity="critical"))
        expected |= {("a", "BotDeaf"), ("c", "BotDown")}
        await until(inhibited)


async def test_a_remediator_that_is_down_is_not_told_of_bot_by_bot(alerts: Path, tmp_path: Path) -> None:
    async with running(alerts, tmp_path) as alertmanager:
        await alertmanager.fire(
            named("BotRemediatorDown", severity="critical"),
            named("BotRemediationUnacknowledged", "a", severity="critical"),
            named("BotRemediationEscalated", "b", severity="critical"),
        )

        async def one_inhibited() -> bool:
            return await alertmanager.inhibited() == {("a", "BotRemediationUnacknowledged")}

        await until(one_inhibited)


async def test_a_bot_is_a_group_and_people_read_what_it_is(alerts: Path, tmp_path: Path) -> None:
    """The webhook gets a payload a bot; Telegram gets text in which nothing breaks its HTML."""
    async with running(alerts, tmp_path) as alertmanager:
        await alertmanager.fire(
            critical("a"),
            critical("b"),
            summary="a <b> & c",
            description="Why.",
            runbook_url="https://r.example/x#y",
            dashboard_url="http://127.0.0.1:3000/d/bot-detail?var-bot=a",
        )
        catcher = alertmanager.catcher
        await until(lambda: {bot for bot, _ in catcher.alerts()} >= {"a", "b"} and len(catcher.messages) >= 2)
        for payload in catcher.webhooks:
            assert payload["version"] == "4"
            assert len({alert["labels"].get("bot") for alert in payload["alerts"]}) == 1
        message = catcher.messages[0]
        assert message["path"] == "/botTELEGRAM_BOT_TOKEN/sendMessage"
        assert message["parse_mode"] == "HTML"
        assert str(message["disable_notification"]).lower() == "true"
        assert "a &lt;b&gt; &amp; c</b>" in message["text"]
        assert '<a href="https://r.example/x#y">BotHealthScoreCritical</a>' in message["text"]


class TagCheck(HTMLParser):
    """Collects the text between the tags, and which tags are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"a", "b"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("count", [1, 3, 4, 100])
async def test_a_page_is_whole_and_bounded_whatever_it_tells_of(
    alerts: Path, tmp_path: Path, count: int
) -> None:
    """Alertmanager cuts a text of more than 4,096 characters, and Telegram refuses a tag that is cut."""
    letters = "w'&<\">é+`"
    async with running(alerts, tmp_path) as alertmanager:
        for number, letter in enumerate(letters):
            alertname = f"BotRemediationEscalated{number}"  # each name is a page of its own
            await alertmanager.fire(
                *(named(alertname, f"bot-{n}", severity="critical") for n in range(count)),
                summary=letter * 500,
                description=letter * 1000,
                runbook_url="https://r.example/" + "x" * 100,
                dashboard_url="https://d.example/?" + "y" * 100,
            )
        messages = alertmanager.catcher.messages
        await until(lambda: len({name_of(message) for message in messages}) == len(letters))
        for message in messages:
            text = message["text"]
            assert len(text) <= 4000
            check = TagCheck()
            check.feed(text)
            check.close()
            assert check.open == []
            assert text.count("<a href=") == (2 * count if count <= 3 else min(count, 10) + 1)
            assert check.text.startswith(f"🔴 {count} alerts fire" if count > 3 else "🔴 ")


def name_of(message: dict[str, Any]) -> str:
    """Return the name of the alerts that a page tells of."""
    match = re.search(r"BotRemediationEscalated\d", message["text"])
    assert match is not None
    return match.group()
