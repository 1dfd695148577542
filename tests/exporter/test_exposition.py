"""The bots' series, judged by prometheus-client's own parser."""

import gzip
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from exporter import metrics
from exporter.exposition import wants_gzip, wants_open_metrics
from exporter.observation import UNKNOWN, Observation, observe
from exporter.probe import EndpointResult, ProbeResult, Reason
from exporter.score import Thresholds
from exporter.store import CHUNK, Store
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
            "version": text,
            "config_sha": text,
            "boot_id": st.sampled_from("ab"),
            "context_usage": st.sampled_from([0, 0.25, 1, 2, "x", True]),
            "usage": st.fixed_dictionaries({"requests": st.integers(0, 10**12), "input_tokens": st.just(-1)}),
            "eventLoop": st.fixed_dictionaries({"utilization": st.sampled_from([0, 0.5, 1, 1.5, "x", True])}),
            "peers": st.lists(st.fixed_dictionaries({"up": st.booleans()})),
        },
    ),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[tuple[Target, Observation | None]]:
    fleet: list[tuple[Target, Observation | None]] = []
    for target in draw(st.lists(targets, max_size=5, unique_by=lambda target: target.bot)):
        seen, state = None, UNKNOWN
        for at in draw(st.lists(st.floats(1e9, 2e9), max_size=3)):
            result = ProbeResult(target.bot, at, draw(endpoints), draw(endpoints))
            seen = observe(state, result, Thresholds())
            state = seen.state
        fleet.append((target, seen))
    return fleet


def parsed(store: Store, page: int = 0, of: int = 1) -> Series:
    exposition = b"".join(store.render(page=page, of=of)).decode()
    series: Series = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in series, f"{key} is there twice"
            series[key] = sample.value
    return series


def expected(fleet: Iterable[tuple[Target, Observation | None]]) -> Series:
    """What must be published, written down without the code under test."""
    series: Series = {}

    def add(family: metrics.Family, value: float, **labels: str) -> None:
        assert set(labels) == set(family.labels)
        series[family.name, frozenset(labels.items())] = float(value)

    for target, seen in fleet:
        bot = target.bot
        add(
            metrics.BOT_INFO,
            1,
            bot=bot,
            template=target.template,
            environment=target.environment,
            instance_id=target.instance_id,
            version=seen.state.version if seen else "",
        )
        if seen is None:
            continue
        health, mesh = seen.result.health, seen.result.mesh
        add(metrics.BOT_UP, health.ok, bot=bot)
        add(metrics.BOT_MESH_UP, mesh.ok, bot=bot)
        add(metrics.BOT_HEALTH_SCORE, seen.score.total, bot=bot)
        for component in ("health", "mesh", "latency", "streak"):
            points = getattr(seen.score, component)
            add(metrics.BOT_HEALTH_COMPONENT_SCORE, points, bot=bot, component=component)
        for endpoint, answer in (("health", health), ("mesh", mesh)):
            seconds = round(answer.seconds, 6)
            add(metrics.BOT_PROBE_DURATION_SECONDS, seconds, bot=bot, endpoint=endpoint)
            if answer.reason:
                add(metrics.BOT_PROBE_FAILURE_INFO, 1, bot=bot, endpoint=endpoint, reason=answer.reason)
        add(metrics.BOT_PROBE_FAILURE_STREAK, seen.state.streak, bot=bot)
        add(metrics.BOT_PROBE_LAST_TIMESTAMP_SECONDS, round(seen.result.at, 3), bot=bot)
        if seen.state.last_success is not None:
            add(metrics.BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS, round(seen.state.last_success, 3), bot=bot)
        if seen.result.peers_up_ratio is not None:
            add(metrics.BOT_MESH_PEERS_UP_RATIO, round(seen.result.peers_up_ratio, 4), bot=bot)
        told, other = seen.result.health.payload or {}, seen.result.mesh.payload or {}
        loop = other.get("eventLoop", told.get("eventLoop"))
        if isinstance(loop, dict) and (busy := loop["utilization"]) in (0, 0.5, 1) and busy is not True:
            add(metrics.BOT_EVENT_LOOP_USAGE_RATIO, busy, bot=bot)
        if seen.state.config_sha:
            add(metrics.BOT_CONFIG_INFO, 1, bot=bot, config_sha=seen.state.config_sha)
        if seen.state.boot_id:
            add(metrics.BOT_RESTARTS_TOTAL, seen.state.restarts, bot=bot)
        context = told.get("context_usage")
        if context in (0, 0.25, 1) and context is not True:
            add(metrics.BOT_CONTEXT_USAGE_RATIO, context, bot=bot)
        if isinstance(usage := told.get("usage"), dict):
            add(metrics.BOT_USAGE_REQUESTS_TOTAL, usage["requests"], bot=bot)
    return series


def store_of(fleet: Iterable[tuple[Target, Observation | None]]) -> Store:
    store = Store()
    for target, seen in fleet:
        store.put_target(target)
        if seen:
            store.upsert(target, seen)
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
        series |= parsed(store, page=page, of=4)
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
    facts = {"peers": [{"up": True}], "config_sha": "c", "boot_id": "b", "context_usage": 0.5}
    facts["eventLoop"] = {"utilization": 0.25}
    usage = {"usage": {"requests": 1, "input_tokens": 2, "output_tokens": 3}}
    fine = EndpointResult(True, None, 200, 0.001, facts | usage)
    for bot, health, mesh in (("a", refused, refused), ("b", fine, fine)):
        seen = observe(UNKNOWN, ProbeResult(bot, 1.0, health, mesh), Thresholds())
        store.upsert(Target(bot, "127.0.0.1:1"), seen)
    families = text_string_to_metric_families(b"".join(store.render()).decode())
    told = {(family.name, family.type, family.documentation) for family in families}
    assert told == {
        (family.name.removesuffix("_total"), family.type, family.help) for family in metrics.PER_BOT
    }


def test_a_restart_is_a_changed_boot_id() -> None:
    state = UNKNOWN
    for boot in ("a", "a", None, "a", "b", "c"):
        payload = {"boot_id": boot} if boot else None
        answer = EndpointResult(True, None, 200, 0.001, payload)
        state = observe(state, ProbeResult("forge", 1.0, answer, answer), Thresholds()).state
    assert state.restarts == 2


@given(fleets())
def test_a_chunk_is_rendered_once_its_turn_is_over(fleet: list[tuple[Target, Observation | None]]) -> None:
    """What a scrape finds ready is what it would have rendered itself."""
    store, again = store_of(fleet), store_of(fleet)
    store.settle(100.0, most=1000)
    assert parsed(store) == parsed(again) == expected(fleet)


def test_a_scrape_of_a_large_fleet_renders_little_itself_and_settling_gets_round_to_all() -> None:
    """A small fleet is rendered by the scrape, to be up to date; a large one bit by bit between scrapes."""
    fine = EndpointResult(True, None, 200, 0.001, None)

    def up_at_once(bots: int) -> tuple[Store, int]:
        store = Store(bots)
        for n in range(bots):
            seen = observe(UNKNOWN, ProbeResult(f"bot-{n}", 1.0, fine, fine), Thresholds())
            store.upsert(Target(f"bot-{n}", "127.0.0.1:1"), seen)
        return store, b"".join(store.render()).count(b"bot_up{")

    assert up_at_once(100)[1] == 100
    store, ready = up_at_once(10_000)
    assert 0 < ready <= 2 * CHUNK
    for _ in range(10_000 // 64):
        store.settle(1e9)
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
