"""The bots' series, judged by prometheus-client's own parser."""

import gzip
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from exporter import metrics
from exporter.exposition.format import wants_gzip, wants_open_metrics
from exporter.exposition.store import CHUNK, Store
from exporter.observation import UNKNOWN, Observation, observe
from exporter.probing.probe import EndpointResult, ProbeResult, Reason
from exporter.result import FAILURE_KINDS, NOT_ASKED
from exporter.score import Thresholds
from exporter.targets import Target

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

text = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
targets = st.builds(Target, names, st.just("127.0.0.1:1"), template=text, environment=text, instance_id=text)
endpoints = st.builds(
    lambda reason, seconds, payload: EndpointResult(
        reason is None, reason, 200 if reason is None else None, seconds, payload
    ),
    st.none() | st.sampled_from(Reason),
    st.floats(0, 100),
    st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "started_at": st.sampled_from("ab"),
            "version": text,
            "config_sha": text,
            "boot_id": st.sampled_from("ab"),
            "context_usage": st.sampled_from([0, 0.25, 1, 2, "x", True]),
            "usage": st.fixed_dictionaries(
                {"requests": st.integers(0, 10**12), "input_tokens": st.just(-1)},
                optional={"failed": st.integers(0, 9)},
            ),
            "memory_bytes": st.sampled_from([0, 10**9, -1, "x"]),
            "turn_age_seconds": st.sampled_from([0, 12.5, -1, None]),
            "channels": st.lists(
                st.fixed_dictionaries({"name": text.filter(bool), "up": st.booleans()}),
                max_size=3,
                unique_by=lambda channel: channel["name"],
            ),
            "eventLoop": st.fixed_dictionaries({"utilization": st.sampled_from([0, 0.5, 1, 1.5, "x", True])}),
            "peers": st.lists(st.fixed_dictionaries({"up": st.booleans()})),
        },
    ),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[tuple[Target, Observation | None]]:
    fleet: list[tuple[Target, Observation | None]] = []
    for target in draw(st.lists(targets, max_size=5, unique_by=lambda target: target.bot)):
        observation, state = None, UNKNOWN
        for at in draw(st.lists(st.floats(1e9, 2e9), max_size=3)):
            result = ProbeResult(target.bot, at, draw(endpoints), draw(endpoints))
            observation = observe(state, result, Thresholds())
            state = observation.state
        fleet.append((target, observation))
    return fleet


def parsed(store: Store, page: int = 0, pages: int = 1) -> Series:
    exposition = b"".join(store.render(page=page, pages=pages)).decode()
    series: Series = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in series, f"{key} is there twice"
            series[key] = sample.value
    return series


def expected(fleet: Iterable[tuple[Target, Observation | None]]) -> Series:
    """Return what must be published, written down without the code under test."""
    series: Series = {}

    def add(family: metrics.Family, value: float, **labels: str) -> None:
        assert set(labels) == set(family.labels)
        series[family.name, frozenset(labels.items())] = float(value)

    for target, observation in fleet:
        bot = target.bot
        add(
            metrics.BOT_INFO,
            1,
            bot=bot,
            template=target.template,
            environment=target.environment,
            instance_id=target.instance_id,
            version=observation.state.version if observation else "",
        )
        if observation is None:
            continue
        health, mesh = observation.result.health, observation.result.mesh
        add(metrics.BOT_UP, health.ok, bot=bot)
        add(metrics.BOT_MESH_UP, mesh.ok, bot=bot)
        add(metrics.BOT_HEALTH_SCORE, observation.score.total, bot=bot)
        for component in ("health", "mesh", "latency", "streak"):
            points = getattr(observation.score, component)
            add(metrics.BOT_HEALTH_COMPONENT_SCORE, points, bot=bot, component=component)
        for endpoint, answer in (("health", health), ("mesh", mesh)):
            seconds = round(answer.seconds, 6)
            add(metrics.BOT_PROBE_DURATION_SECONDS, seconds, bot=bot, endpoint=endpoint)
            if answer.reason:
                add(metrics.BOT_PROBE_FAILURE_INFO, 1, bot=bot, endpoint=endpoint, reason=answer.reason)
        add(metrics.BOT_PROBE_FAILURE_STREAK, observation.state.streak, bot=bot)
        add(metrics.BOT_PROBE_LAST_TIMESTAMP_SECONDS, round(observation.result.at, 3), bot=bot)
        if observation.state.last_success is not None:
            add(
                metrics.BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS,
                round(observation.state.last_success, 3),
                bot=bot,
            )
        if observation.result.peers_up_ratio is not None:
            add(metrics.BOT_MESH_PEERS_UP_RATIO, round(observation.result.peers_up_ratio, 4), bot=bot)
        payload, mesh_payload = observation.result.health.payload or {}, observation.result.mesh.payload or {}
        loop = mesh_payload.get("eventLoop", payload.get("eventLoop"))
        if isinstance(loop, dict) and (busy := loop["utilization"]) in (0, 0.5, 1) and busy is not True:
            add(metrics.BOT_EVENT_LOOP_USAGE_RATIO, busy, bot=bot)
        if observation.state.config_sha:
            add(metrics.BOT_CONFIG_INFO, 1, bot=bot, config_sha=observation.state.config_sha)
        if observation.state.boot_id or observation.state.started_at:
            add(metrics.BOT_RESTARTS_TOTAL, observation.state.restarts, bot=bot)
        contexts = [facts.get("context_usage") for facts in (payload, mesh_payload)]
        valid = [context for context in contexts if context in (0, 0.25, 1) and context is not True]
        if valid:
            add(metrics.BOT_CONTEXT_USAGE_RATIO, valid[0], bot=bot)
        usages: list[Any] = [facts["usage"] for facts in (payload, mesh_payload) if "usage" in facts]
        if usages:
            add(metrics.BOT_USAGE_REQUESTS_TOTAL, usages[0]["requests"], bot=bot)
        for family, fact in (
            (metrics.BOT_MEMORY_BYTES, "memory_bytes"),
            (metrics.BOT_TURN_AGE_SECONDS, "turn_age_seconds"),
        ):
            told: list[Any] = [of[fact] for of in (payload, mesh_payload) if of.get(fact) in (0, 12.5, 10**9)]
            if told:
                add(family, told[0], bot=bot)
        counts = [usage["failed"] for usage in usages if "failed" in usage]
        for kind in FAILURE_KINDS if counts else ():
            add(metrics.BOT_USAGE_FAILED_TOTAL, counts[0] if kind == "other" else 0, bot=bot, kind=kind)
        channels: list[Any] = [of["channels"] for of in (payload, mesh_payload) if "channels" in of]
        for channel in channels[0] if channels else ():
            add(metrics.BOT_CHANNEL_UP, channel["up"], bot=bot, channel=channel["name"])
    return series


def store_of(fleet: Iterable[tuple[Target, Observation | None]]) -> Store:
    store = Store()
    for target, observation in fleet:
        store.put_target(target)
        if observation:
            store.upsert(target, observation)
    return store


@given(fleets())
def test_what_is_published_parses_to_what_was_observed(
    fleet: list[tuple[Target, Observation | None]],
) -> None:
    assert parsed(store_of(fleet)) == expected(fleet)


@given(fleets())
def test_gzip_pages_openmetrics_and_larger_stores_say_the_same(
    fleet: list[tuple[Target, Observation | None]],
) -> None:
    store = store_of(fleet)
    whole = b"".join(store.render())
    assert gzip.decompress(b"".join(store.render(gzip=True)) or gzip.compress(b"")) == whole
    series: Series = {}
    for page in range(4):
        series |= parsed(store, page=page, pages=4)
    assert series == expected(fleet)
    text = b"".join(store.render(open_metrics=True)).decode() + "# EOF\n"
    families = parse_open_metrics(text)  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples]
    assert {(sample.name, frozenset(sample.labels.items())) for sample in samples} == expected(fleet).keys()
    store.reserve(100_000)
    assert parsed(store) == expected(fleet)


@given(fleets(), st.data())
def test_what_left_is_gone_and_nothing_else_is(
    fleet: list[tuple[Target, Observation | None]], data: st.DataObject
) -> None:
    store = store_of(fleet)
    stays = [pair for pair in fleet if data.draw(st.booleans())]
    for pair in fleet:
        if pair not in stays:
            store.remove(pair[0].bot)
    assert parsed(store) == expected(stays)
    assert len(store) == len(stays)


def test_an_empty_store_publishes_nothing() -> None:
    assert b"".join(Store().render()) == b""


def test_types_and_help_are_those_of_the_table() -> None:
    store = Store()
    refused = EndpointResult(False, Reason.connect_refused, None, 0.001, None)
    facts: dict[str, object] = {
        "peers": [{"up": True}],
        "config_sha": "c",
        "boot_id": "b",
        "context_usage": 0.5,
    }
    facts["eventLoop"] = {"utilization": 0.25}
    facts |= {"memory_bytes": 4, "turn_age_seconds": 5, "channels": [{"name": "telegram", "up": True}]}
    usage = {"usage": {"requests": 1, "failed": 0, "input_tokens": 2, "output_tokens": 3}}
    fine = EndpointResult(True, None, 200, 0.001, facts | usage)
    for bot, health, mesh in (("a", refused, refused), ("b", fine, fine)):
        observation = observe(UNKNOWN, ProbeResult(bot, 1.0, health, mesh), Thresholds())
        store.upsert(Target(bot, "127.0.0.1:1"), observation)
    families = text_string_to_metric_families(b"".join(store.render()).decode())
    published = {(family.name, family.type, family.documentation) for family in families}
    assert published == {
        (family.name.removesuffix("_total"), family.type, family.help) for family in metrics.PER_BOT
    }


def test_what_is_told_no_longer_is_gone() -> None:
    """A channel, and the mesh of a bot that is now said to have none."""
    store = Store()

    def shown(mesh: EndpointResult) -> set[str]:
        health = EndpointResult(True, None, 200, 0.001, {"ok": True})
        observation = observe(UNKNOWN, ProbeResult("a", 1.0, health, mesh), Thresholds())
        store.upsert(Target("a", "127.0.0.1:1"), observation)
        lines = b"".join(store.render()).decode().splitlines()
        return {line for line in lines if line[0] != "#" and ("mesh" in line or "channel" in line)}

    def told(*channels: str) -> EndpointResult:
        listed = [{"name": name, "up": name != "irc"} for name in channels]
        return EndpointResult(True, None, 200, 0.001, {"channels": listed})

    telegram, irc = 'bot_channel_up{bot="a",channel="telegram"} 1', 'bot_channel_up{bot="a",channel="irc"} 0'
    assert {telegram, irc, 'bot_mesh_up{bot="a"} 1'} < shown(told("telegram", "irc"))
    one = shown(told("telegram"))
    assert telegram in one
    assert irc not in one
    assert shown(NOT_ASKED) == {'bot_health_component_score{bot="a",component="mesh"} 20'}


def restarts(*payloads: Mapping[str, object] | None) -> int:
    state = UNKNOWN
    for payload in payloads:
        answer = EndpointResult(True, None, 200, 0.001, payload)
        state = observe(state, ProbeResult("forge", 1.0, answer, answer), Thresholds()).state
    return state.restarts


@pytest.mark.parametrize("fact", ["started_at", "boot_id"])
def test_a_restart_is_a_changed_started_at_or_boot_id(fact: str) -> None:
    assert restarts(*({fact: value} if value else None for value in ("a", "a", None, "a", "b", "c"))) == 2


def test_a_reboot_changes_both_and_is_one_restart() -> None:
    first, restarted = {"boot_id": "1", "started_at": "a"}, {"boot_id": "1", "started_at": "b"}
    assert restarts(first, restarted, {"boot_id": "2", "started_at": "c"}) == 2


@given(fleets())
def test_a_chunk_is_rendered_once_its_turn_is_over(fleet: list[tuple[Target, Observation | None]]) -> None:
    """What a scrape finds ready is what it would have rendered itself."""
    store, again = store_of(fleet), store_of(fleet)
    store.render_idle(100.0, limit=1000)
    assert parsed(store) == parsed(again) == expected(fleet)


def test_a_scrape_of_a_large_fleet_renders_little_itself_and_all_is_rendered_between_scrapes() -> None:
    """A small fleet is rendered by the scrape, to be up to date; a large one bit by bit between scrapes."""
    fine = EndpointResult(True, None, 200, 0.001, None)

    def up_at_once(bots: int) -> tuple[Store, int]:
        store = Store(bots)
        for n in range(bots):
            observation = observe(UNKNOWN, ProbeResult(f"bot-{n}", 1.0, fine, fine), Thresholds())
            store.upsert(Target(f"bot-{n}", "127.0.0.1:1"), observation)
        return store, b"".join(store.render()).count(b"bot_up{")

    assert up_at_once(100)[1] == 100
    store, ready = up_at_once(10_000)
    assert 0 < ready <= 2 * CHUNK
    for _ in range(10_000 // 64):
        store.render_idle(1e9)
    assert b"".join(store.render()).count(b"bot_up{") == 10_000


def test_a_scraper_gets_the_format_and_coding_it_asks_for() -> None:
    prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    assert wants_open_metrics(prometheus)
    assert not wants_open_metrics("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;q=0.5")
    assert not wants_open_metrics("")
    assert not wants_open_metrics("*/*")
    assert not wants_open_metrics("application/openmetrics-text;q=oops")
    assert wants_gzip("deflate, gzip;q=0.8")
    assert not wants_gzip("gzip;q=0")
    assert not wants_gzip("identity")
