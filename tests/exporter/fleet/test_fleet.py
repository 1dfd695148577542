"""The fleet: slots, skips, limits, leaving bots, and hundreds of real sockets."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from exporter.exposition.self_metrics import SelfMetrics
from exporter.exposition.store import Store
from exporter.fleet.fleet import Fleet
from exporter.probing.probe import EndpointResult, ProbeResult, Reason, open_session
from exporter.probing.prober import Done
from exporter.probing.stream_prober import StreamProber
from exporter.settings import Settings
from exporter.targets import Target

HttpBot = Callable[[dict[str, bytes]], Awaitable[str]]
WaitUntil = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]

LIVE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
FINE = EndpointResult(True, None, 200, 0.01, None)
FAILED = EndpointResult(False, Reason.read_timeout, None, 1.0, None, "no complete answer in time")


class ManualProber:
    """A prober whose probes end when the test says so."""

    def __init__(self) -> None:
        self.running: list[tuple[Target, Done]] = []

    def start(self, target: Target, done: Done) -> None:
        self.running.append((target, done))

    async def close(self) -> None:
        pass

    def finish(self, answer: EndpointResult = FINE) -> None:
        running, self.running = self.running, []
        for target, done in running:
            done(ProbeResult(target.bot, 1.0, answer, answer))


def fleet_of(prober: ManualProber, store: Store, self_metrics: SelfMetrics, limit: int = 1000) -> Fleet:
    return Fleet(Settings(interval=0.1), prober, store, self_metrics, max_in_flight=limit)


def published(store: Store) -> set[str]:
    families = text_string_to_metric_families(b"".join(store.render()).decode())
    return {sample.labels["bot"] for family in families for sample in family.samples}


def value(self_metrics: SelfMetrics, name: str) -> float:
    sample = self_metrics.registry.get_sample_value(name)
    assert sample is not None
    return sample


@pytest.fixture
def self_metrics() -> SelfMetrics:
    return SelfMetrics(Settings(), "test")


def bots(count: int, address: str = "127.0.0.1:1") -> list[Target]:
    return [Target(f"bot-{n}", address, template="support") for n in range(count)]


async def test_a_bot_whose_probe_still_runs_is_skipped_and_counted(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    prober = ManualProber()
    fleet = fleet_of(prober, Store(), self_metrics)
    fleet.apply(bots(1))

    async def skipped() -> bool:
        return value(self_metrics, "bot_exporter_probes_skipped_total") >= 2

    await wait_until(skipped)
    assert len(prober.running) == 1
    fleet.stop()


async def test_no_more_probes_run_at_once_than_allowed_and_none_is_forgotten(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    prober, store = ManualProber(), Store()
    fleet = fleet_of(prober, store, self_metrics, limit=3)
    fleet.apply(bots(10))

    async def all_probed() -> bool:
        assert len(prober.running) <= 3
        assert value(self_metrics, "bot_exporter_probes_in_flight") <= 3
        prober.finish()
        return all(
            bot is not None and bot.state.score is not None
            for bot in (fleet.get(f"bot-{n}") for n in range(10))
        )

    await wait_until(all_probed)
    fleet.stop()


async def test_answers_are_read_while_many_bots_are_due(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    """After a stall all are due at once: an answer that came must not wait for the last of them."""
    prober = ManualProber()
    fleet = fleet_of(prober, Store(), self_metrics)
    fleet.apply(bots(300))
    time.sleep(0.2)  # noqa: ASYNC251 - this is the stall
    started = [0]

    async def all_run() -> bool:
        return len(prober.running) == 300

    def sample() -> None:
        started.append(len(prober.running))
        if started[-1] < 300:
            asyncio.get_running_loop().call_soon(sample)

    sample()
    await wait_until(all_run)
    assert max(after - before for before, after in itertools.pairwise(started)) < 150
    fleet.stop()


async def test_a_bot_that_leaves_is_gone_at_once_and_its_late_answer_is_dropped(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    prober, store = ManualProber(), Store()
    fleet = fleet_of(prober, store, self_metrics)
    fleet.apply(bots(2))
    assert published(store) == {"bot-0", "bot-1"}

    async def both_run() -> bool:
        return len(prober.running) == 2

    await wait_until(both_run)
    fleet.apply(bots(1))
    assert published(store) == {"bot-0"}
    prober.finish()
    assert published(store) == {"bot-0"}
    fleet.stop()


async def test_a_bot_at_a_new_address_is_not_judged_by_its_old_one(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    prober = ManualProber()
    fleet = fleet_of(prober, Store(), self_metrics)
    (target,) = bots(1)
    fleet.apply([target])

    async def runs() -> bool:
        return bool(prober.running)

    await wait_until(runs)
    fleet.apply([replace(target, address="127.0.0.1:2")])
    prober.finish(FAILED)
    bot = fleet.get("bot-0")
    assert bot is not None
    assert bot.state.score is None
    await wait_until(runs)
    assert prober.running[0][0].address == "127.0.0.1:2"
    fleet.stop()


async def test_a_bot_whose_interval_changes_is_probed_by_the_new_one(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    """By its template first, then by its own, then as everyone: each time the wheel has it once."""
    prober = ManualProber()
    settings = Settings(interval=86400, template_intervals={"support": 0.1})
    fleet = Fleet(settings, prober, Store(), self_metrics, max_in_flight=1000)
    (fast,) = bots(1)

    async def runs() -> bool:
        return bool(prober.running)

    for target, longest in (
        (fast, 0.1),
        (replace(fast, interval=3600), 3600),
        (replace(fast, template="manager"), 86400),
        (fast, 0.1),
    ):
        fleet.apply([target])
        prober.finish()
        assert value(self_metrics, "bot_probe_interval_seconds") == longest
    await wait_until(runs)
    assert len(prober.running) == 1
    fleet.stop()


async def test_a_bot_not_yet_probed_has_info_and_nothing_else(self_metrics: SelfMetrics) -> None:
    store = Store()
    fleet = fleet_of(ManualProber(), store, self_metrics)
    fleet.apply(bots(1))
    text = b"".join(store.render()).decode()
    assert 'bot_info{bot="bot-0"' in text
    assert "bot_up" not in text
    fleet.stop()


async def test_changes_of_state_are_logged_and_not_every_probe(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    prober = ManualProber()
    fleet = fleet_of(prober, Store(), self_metrics)
    fleet.apply(bots(1))

    async def runs() -> bool:
        return bool(prober.running)

    with structlog.testing.capture_logs() as logs:
        for answer in (FINE, FAILED, FAILED, FAILED, FINE, FINE):
            await wait_until(runs)
            prober.finish(answer)
    fleet.stop()
    health = [entry for entry in logs if entry.get("endpoint") == "health"]
    assert [(entry["event"], entry.get("reason"), entry.get("failures")) for entry in health] == [
        ("bot failing", "read_timeout", None),
        ("bot recovered", None, 3),
    ]


async def test_hundreds_of_bots_are_probed_on_real_sockets(
    http_bot: HttpBot, self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    address = await http_bot({"/health": LIVE, "/mesh": LIVE})
    port = address.rpartition(":")[2]
    store = Store()
    async with open_session() as session:
        prober = StreamProber(Settings(), session)
        fleet = Fleet(Settings(interval=2, timeout=10), prober, store, self_metrics, max_in_flight=1000)
        fleet.apply([Target(f"bot-{n}", f"127.0.0.1:{port}", template="support") for n in range(400)])

        async def all_up() -> bool:
            return b"".join(store.render()).count(b"bot_up{") == 400

        await wait_until(all_up)
        fleet.stop()
        await prober.close()
    ups = [
        sample.value
        for family in text_string_to_metric_families(b"".join(store.render()).decode())
        for sample in family.samples
        if family.name in ("bot_up", "bot_mesh_up")
    ]
    assert ups == [1.0] * 800
    failures = self_metrics.registry.get_sample_value(
        "bot_fleet_probe_failures_total",
        {"template": "support", "endpoint": "health", "reason": "read_timeout"},
    )
    assert failures == 0


async def test_a_fleet_that_is_all_dead_reads_as_dead(
    self_metrics: SelfMetrics, wait_until: WaitUntil
) -> None:
    store = Store()
    async with open_session() as session:
        prober = StreamProber(Settings(), session)
        fleet = Fleet(Settings(interval=1, timeout=5), prober, store, self_metrics, max_in_flight=1000)
        fleet.apply([Target(f"bot-{n}", f"127.1.0.{n % 250 + 1}:1") for n in range(500)])

        async def all_probed() -> bool:
            return b"".join(store.render()).count(b"bot_up{") == 500

        await wait_until(all_probed)
        fleet.stop()
        await prober.close()
    text = b"".join(store.render())
    assert text.count(b'reason="connect_refused"') == 1000
