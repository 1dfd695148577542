"""The bots' series, judged by prometheus-client's own parser."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter import metrics
from exporter.observation import Observation, observe
from exporter.probe import EndpointResult, ProbeResult, Reason
from exporter.score import Thresholds
from exporter.store import Store
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
        {"version": text, "peers": st.lists(st.fixed_dictionaries({"up": st.booleans()}))}
    ),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[tuple[Target, Observation | None]]:
    fleet: list[tuple[Target, Observation | None]] = []
    for target in draw(st.lists(targets, max_size=5, unique_by=lambda target: target.bot)):
        seen = None
        for at in draw(st.lists(st.floats(1e9, 2e9), max_size=3)):
            result = ProbeResult(target.bot, at, draw(endpoints), draw(endpoints))
            seen = observe(seen, result, Thresholds())
        fleet.append((target, seen))
    return fleet


def parsed(store: Store) -> Series:
    exposition = b"".join(store.render()).decode()
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
            version=seen.version if seen else "",
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
        add(metrics.BOT_PROBE_FAILURE_STREAK, seen.streak, bot=bot)
        add(metrics.BOT_PROBE_LAST_TIMESTAMP_SECONDS, round(seen.result.at, 3), bot=bot)
        if seen.last_success is not None:
            add(metrics.BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS, round(seen.last_success, 3), bot=bot)
        if seen.result.peers_up_ratio is not None:
            add(metrics.BOT_MESH_PEERS_UP_RATIO, round(seen.result.peers_up_ratio, 4), bot=bot)
    return series


@given(fleets())
def test_what_is_published_parses_to_what_was_observed(
    fleet: list[tuple[Target, Observation | None]],
) -> None:
    store = Store()
    for target, seen in fleet:
        store.upsert(target, None)
        store.upsert(target, seen)
    assert parsed(store) == expected(fleet)


@given(fleets(), st.data())
def test_what_left_is_gone_and_nothing_else_is(
    fleet: list[tuple[Target, Observation | None]], data: st.DataObject
) -> None:
    store = Store()
    for target, seen in fleet:
        store.upsert(target, seen)
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
    fine = EndpointResult(True, None, 200, 0.001, {"peers": [{"up": True}]})
    for bot, health, mesh in (("a", refused, refused), ("b", fine, fine)):
        seen = observe(None, ProbeResult(bot, 1.0, health, mesh), Thresholds())
        store.upsert(Target(bot, "127.0.0.1:1"), seen)
    families = text_string_to_metric_families(b"".join(store.render()).decode())
    told = {(family.name, family.type, family.documentation) for family in families}
    assert told == {(family.name, family.type, family.help) for family in metrics.PER_BOT}
