"""What the worker records of costs, as the API and the metrics have it; advice; budgets that refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from remediator.api.cost.views import cost_view
from remediator.cost.exposition import samples
from remediator.cost.metering import CostMeter
from remediator.cost.price_table import shipped
from remediator.cost.snapshot import take_snapshot
from remediator.metrics import COST, COST_UNKNOWN
from sandbox.process.waiting import wait_until
from tests.remediator.cost.oracle import Oracle, run_oracle
from tests.remediator.cost.test_pricing_api import everything, pricing_api

if TYPE_CHECKING:
    from tests.remediator.conftest import Api, World

RunApp = Callable[..., AbstractAsyncContextManager["Api"]]
QUICK_COSTS: Mapping[str, Any] = {"cost_interval": 0.1, "advice_interval": 0.2}
GIB = 2.0**30
AFTER_REFRESH = (
    f"AWS pricing API; other families: {shipped('us-west-1').source} of {shipped('us-west-1').as_of}"
)
HAIKU = "anthropic/claude-haiku-4-5"


@pytest.fixture
async def oracle() -> AsyncIterator[Oracle]:
    async with run_oracle() as running:
        yield running


def idle(oracle: Oracle, bot: str) -> None:
    """Have the oracle answer two weeks of an OpenClaw that does nothing: 0.8 GiB, and healthy."""
    oracle.instant |= {
        "count_over_time(bot:node_": {bot: 4032},
        "avg1d": {bot: 0.03},
        "bot:node_memory": {bot: 0.8 * GIB},
        "bot:node_cpu": {bot: 0.05},
        "bot:bot_up": {bot: 1},
        "bot:bot_probe": {bot: 0.2},
    }


async def in_cost(app: Api, bot: str, enough: Callable[[Any], object]) -> Any:
    """Return the bot in GET /cost, once it is as wanted."""

    async def listed() -> Any:
        rows = [row for row in (await app.get("/cost"))["bots"] if row["bot"] == bot]
        return rows[0] if rows and enough(rows[0]) else None

    return await wait_until(listed, 30, f"{bot} in /cost")


async def test_what_a_bot_costs_is_told_by_part_with_source_and_date_and_is_in_the_metrics(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(**QUICK_COSTS) as app:
        await app.deployed(bot)
        row = await in_cost(app, bot, lambda row: row["components"]["address"] is not None)
        assert row["components"]["instance"] == 0.0124
        assert row["components"]["volume"] == pytest.approx(10 * 0.096 / 730, abs=1e-6)
        assert row["components"]["burst"] == 0  # our launches have standard credits
        assert row["usdPerHour"] == pytest.approx(sum(row["components"].values()), abs=1e-5)
        prices = (await app.get("/cost"))["prices"]
        assert (prices["region"], prices["asOf"]) == ("us-west-1", shipped("us-west-1").as_of)
        assert prices["source"]

        async def published() -> bool:
            return await app.metric(f'bot_cost_usd_per_hour{{bot="{bot}",component="instance"}}') == 0.0124

        async def recorded() -> bool:
            return bool((await app.get("/dashboard"))["cost"]["usdPerHour"] > 0)

        await wait_until(published, 30, "the series of the instance")
        await wait_until(
            recorded, 30, "the rates of the bot"
        )  # in this pass, or if it was late for it, the next
        labels = f'{{bot="{bot}",instance_id="{await world.instance(bot)}"}}'
        assert await app.metric(f"bot_instance_vcpus{labels}") == 2
        assert await app.metric(f"bot_instance_memory_bytes{labels}") == pytest.approx(0.93 * GIB)


async def test_an_unknown_price_is_null_has_no_series_and_is_counted(tmp_path: Path, world: World) -> None:
    """Of a region that is in no list: nothing is 0."""
    from remediator.store.store import Store

    store = await Store.open(f"sqlite:///{tmp_path / 'x.db'}")
    meter = CostMeter(store, None, None, "mars-north-1")  # type: ignore[arg-type]  # no AWS
    try:
        async with store.write() as tx:
            await tx.add_bot(bot_row("forge", tx.now))
            snapshot = await take_snapshot(tx, meter)
    finally:
        await store.close()
    view = cost_view(snapshot)
    (row,) = view["bots"]
    assert row["usdPerHour"] is None
    assert row["components"] == dict.fromkeys(("instance", "volume", "address", "burst"))
    assert view["unknownCount"] == len(view["unknown"]) == 4
    published = samples(snapshot)
    assert published[COST] == []
    assert {labels for labels, _ in published[COST_UNKNOWN]} == {
        ("forge", component) for component in ("instance", "volume", "address", "burst")
    }


def bot_row(name: str, now: float) -> Any:
    from remediator.configuration.rendering import render
    from remediator.model import Bot
    from templates import load

    config, sha = render(name, "production", load().get("support", "production"))
    return Bot(
        name, "support", "production", "active", "127.0.0.1:1", "/health", "/mesh", "i-0", config, sha,
        None, None, "", None, None, 0, now, now,
    )  # fmt: skip


async def test_what_models_cost_is_counted_once_also_over_a_restart_of_the_remediator(
    run_app: RunApp, world: World, oracle: Oracle
) -> None:
    bot = world.name()
    each = 0.002  # 1,000 tokens in at $1 a million and 200 out at $5: the support bot's Haiku 4.5

    async def counted(app: Api, requests: float) -> None:
        def enough(row: Any) -> bool:
            return bool(row["models"]) and row["models"][0]["requests"] == requests

        row = await in_cost(app, bot, enough)
        assert row["models"][0]["usd"] == pytest.approx(requests * each)
        assert row["models"][0]["usdPerRequest"] == pytest.approx(each)

    async with run_app(prometheus_url=oracle.url, **QUICK_COSTS) as app:
        await app.deployed(bot)
        oracle.counters[bot] = 10
        await counted(app, 10)
        oracle.counters[bot] = 25
        await counted(app, 25)
        oracle.broken = True
    async with run_app(prometheus_url=oracle.url, **QUICK_COSTS) as app:
        await counted(app, 25)
        oracle.counters[bot] = 5  # the bot started again
        oracle.broken = False
        await counted(app, 30)

        async def published() -> bool:
            name = f'bot_model_cost_usd_total{{bot="{bot}",model="{HAIKU}"}}'
            return await app.metric(name) == pytest.approx(30 * each)

        await wait_until(published, 30, "the series of the model")
        assert (await app.get("/cost"))["models"][0]["model"] == HAIKU


async def test_a_recommendation_is_followed_by_its_own_call_and_then_says_nothing_new(
    run_app: RunApp, world: World, oracle: Oracle
) -> None:
    """A support bot with an idle OpenClaw on a t3.micro: it grows, by a blue/green redeploy."""
    bot = world.name()
    idle(oracle, bot)
    async with run_app(prometheus_url=oracle.url, soak_window=0.1, **QUICK_COSTS) as app:
        await app.deployed(bot)

        async def recommended() -> Any:
            answer = await app.get(f"/recommendations?all=true&bot={bot}")
            return answer["recommended"] or None

        (advice,) = await wait_until(recommended, 30, "a recommendation")
        assert (advice["current"], advice["target"]) == ("t3.micro", "t3.small")
        assert (
            advice["command"] == f"botctl config {bot} --set instance_type=t3.small --set memory=2GB --apply"
        )
        assert advice["monthlySavingUsd"] == pytest.approx((0.0124 - 0.0248) * 730)
        assert advice["evidence"]
        assert advice["risk"]
        assert advice["prices"]["asOf"]
        saving = f'bot_recommendation_monthly_saving_usd{{bot="{bot}",kind="instance"}}'

        async def published() -> bool:
            return await app.metric(saving) == pytest.approx(advice["monthlySavingUsd"])

        await wait_until(published, 30, "the series of the saving")
        call = advice["call"]
        answer = await app.call(call["method"], call["path"], call["body"])
        assert answer.status == 202, answer
        ended = await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
        assert ended["status"] == "deployed", ended

        async def content() -> bool:
            others = (await app.get(f"/recommendations?all=true&bot={bot}"))["others"]
            return [advice["status"] for advice in others if advice["kind"] == "instance"] == ["fits"]

        await wait_until(content, 30, "no more recommendation")
        assert (await in_cost(app, bot, lambda _: True))["components"]["instance"] == 0.0248


async def test_what_is_not_known_well_enough_is_named(run_app: RunApp, world: World) -> None:
    """A t3.small holds what the bot itself takes; nothing measured what more it needs."""
    bot = world.name()
    async with run_app(**QUICK_COSTS) as app:
        await app.deployed(bot, kind="designer")

        async def unsure() -> Any:
            return (await app.get(f"/recommendations?bot={bot}"))["insufficientData"] or None

        assert {"bot": bot, "kind": "instance"} in await wait_until(unsure, 30, "advice that is not sure")


async def test_without_evidence_there_is_only_what_is_known_without_measuring(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(**QUICK_COSTS) as app:
        await app.deployed(bot)

        async def advised() -> Any:
            return (await app.get(f"/recommendations?bot={bot}"))["recommended"] or None

        (advice,) = await wait_until(advised, 30, "a recommendation")
        assert advice["target"] == "t3.small"
        assert "in a turn" in advice["risk"]


# budgets


async def test_a_budget_that_refuses_answers_a_deploy_with_the_reason_and_nothing_is_reserved(
    app: Api, world: World
) -> None:
    bot = world.name()
    answer = await app.call("PUT", "/budgets/template/support", {"usd": 0.01, "refuse": True, "by": "jo"})
    assert answer.status == 200, answer
    assert answer.body["by"] == "jo"
    refused = await app.begin_deploy(bot)
    assert refused.status == 409
    assert "the month's budget of template support is $0.01" in refused.body["error"]["message"]
    assert "PUT /budgets" in refused.body["error"]["remedy"]
    assert await world.live(bot) == []
    assert not any(row["bot"] == bot for row in (await app.get("/dashboard"))["registry"])
    (listed,) = await app.get("/budgets")
    assert (listed["scope"], listed["name"], listed["refuse"]) == ("template", "support", True)
    assert (await app.call("DELETE", "/budgets/template/support")).status == 200
    await app.deployed(bot)
    events = [entry["event"] for entry in await app.get("/audit?limit=1000")]
    assert {"budget.set", "budget.removed"} <= set(events)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/budgets/planet/earth", {"usd": 1}, "scope"),
        ("/budgets/template/nonsense", {"usd": 1}, "name"),
        ("/budgets/fleet/some", {"usd": 1}, "name"),
        ("/budgets/fleet/all", {"usd": 0}, "usd"),
        ("/budgets/fleet/all", {"usd": -5}, "usd"),
        ("/budgets/fleet/all", {"usd": "much"}, "usd"),
        ("/budgets/fleet/all", {}, "usd"),
    ],
)
async def test_a_wrong_budget_is_refused_by_field(app: Api, path: str, body: Any, field: str) -> None:
    answer = await app.call("PUT", path, body)
    assert (answer.status, answer.field) == (422, field)


async def test_a_budget_is_in_the_metrics_with_its_projection(run_app: RunApp, world: World) -> None:
    async with run_app(**QUICK_COSTS) as app:
        await app.deployed(world.name())
        await app.call("PUT", "/budgets/fleet/all", {"usd": 100})

        async def published() -> bool:
            labels = '{name="all",scope="fleet"}'
            limit = await app.metric(f"bot_budget_usd{labels}")
            projected = await app.metric(f"bot_budget_projected_usd{labels}")
            return limit == 100 and projected is not None and projected > 0

        await wait_until(published, 30, "the series of the budget")


# prices


async def test_a_refresh_that_fails_leaves_the_last_good_prices_and_one_that_works_is_kept(
    run_app: RunApp, world: World
) -> None:
    refreshes = 'bot_cost_price_refreshes_total{{outcome="{}"}}'
    refresh: Mapping[str, Any] = {"prices_refresh": True, **QUICK_COSTS}

    asked = set[str]()

    def answer(query: Mapping[str, Any]) -> Sequence[str]:
        asked.add(str(query.get("instanceType", "t3")).partition(".")[0])
        return everything(query)

    async def until(app: Api, outcome: str) -> Any:
        async def counted() -> bool:
            return await app.metric(refreshes.format(outcome)) == 1

        await wait_until(counted, 30, f"a refresh that has {outcome}")
        return (await app.get("/cost"))["prices"]

    async with (
        pricing_api(lambda _: "InternalErrorException") as broken,
        run_app(**refresh, pricing_endpoint_url=broken) as app,
    ):
        prices = await until(app, "failed")
        assert prices["asOf"] == shipped("us-west-1").as_of
    async with (
        pricing_api(answer) as working,
        run_app(**refresh, pricing_endpoint_url=working) as app,
    ):
        prices = await until(app, "refreshed")
        assert (prices["asOf"], prices["source"]) == ("2026-11-01", AFTER_REFRESH)
        assert asked == {"t3"}, "the families that bots and templates have, a request a type"
    async with run_app(**QUICK_COSTS) as app:  # not refreshed any more: the last good ones are kept
        bot = world.name()
        await app.deployed(bot)
        row = await in_cost(app, bot, lambda _: True)
        assert row["components"]["instance"] == pytest.approx(1.0124)
        assert (await app.get("/cost"))["prices"]["source"] == AFTER_REFRESH
