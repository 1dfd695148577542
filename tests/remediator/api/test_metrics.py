"""GET /metrics: what the store's state looks like as series, and how many statements that takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from remediator.api import rollouts
from remediator.api.deployments import deployment_view
from remediator.api.metrics import SOURCES, Source, read_state
from remediator.configuration.drift_detector import FACT
from remediator.configuration.rendering import render
from remediator.metrics import SERIES, Metrics
from remediator.model import Bot, Run, RunKind
from remediator.provisioning.orphans import FACT as ORPHANS
from remediator.recovery.dependencies import Dependency
from remediator.recovery.storm import Storm
from remediator.recovery.storm_watch import DEPENDENCIES
from remediator.rollouts.planner import Member, Rollout, Status
from remediator.rollouts.repository import RolloutRepository
from remediator.scaling import exposition as scaling
from remediator.store import schema
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from templates import BotTemplate, ScalingTemplate, Templates, load
from tests.remediator.conftest import Api
from tests.remediator.statements import counted_statements

NOW = 1_000_000.0


class ScaledTemplates(Templates):
    """The bundled ones, of which support scales in staging."""

    def get(self, name: str, environment: str) -> BotTemplate:
        template = super().get(name, environment)
        limits = ScalingTemplate(min=1, max=4, target=0.75)
        scales = (name, environment) == ("support", "staging")
        return template.model_copy(update={"scaling": limits}) if scales else template


SCALED = ScaledTemplates(load()._files)
CONFIG, SHA = render("forge", "production", load().get("support", "production"))
STATEMENTS = 21
"""Of one scrape while deployments of every kind, recoveries and rollouts are under way, `BEGIN` included."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{tmp_path / 'x.db'}", clock=lambda: NOW)
    yield store
    await store.close()


def bot_named(name: str, **changes: Any) -> Bot:
    bot = Bot(
        name, "support", "production", "active", "127.0.0.1:1", "/health", "/mesh", f"i-{name}", CONFIG, SHA,
        None, None, "", None, None, 0, NOW, NOW, version=2,
    )  # fmt: skip
    return replace(bot, **changes)


async def add_run(
    tx: Transaction, bot: str, kind: RunKind, *, steps: int = 0, ended: str = "", **changes: Any
) -> str:
    """Add a run with so many of a redeploy's steps, 10 s each; the last goes on unless the run `ended`."""
    run_id = f"{kind[:3]}-{bot}-{ended}"
    finished = NOW - 100 if ended else None
    run = Run(run_id, kind, bot, "manual", "", ended or "running", "", "", NOW - 500, finished)
    await tx.add_run(replace(run, **changes))
    names = ("plan", "reserved", "image", "launch", "running", "healthy")[:steps]
    rows = [
        {
            "run_id": run_id,
            "name": name,
            "state": "done" if ended or number < steps - 1 else "intended",
            "request": {"becomes": {"config": CONFIG}, "soak": 77.0} if name == "plan" else {},
            "result": {},
            "detail": "",
            "intended_at": NOW - 100 + 10 * number,
            "finished_at": NOW - 90 + 10 * number if ended or number < steps - 1 else None,
        }
        for number, name in enumerate(names)
    ]
    if rows:
        await tx.execute(insert(schema.steps), rows)
    return run_id


async def add_rollout(tx: Transaction, number: int, members: list[tuple[str, str | None, str]]) -> Rollout:
    """Add a rollout that runs or, every third, is paused. `members`: bot, run, why it is skipped."""
    status: Status = "paused" if number % 3 == 2 else "running"
    rollout = Rollout(f"rol-{number}", status, "", "newer", "ann", {}, 2, 1, NOW - 600 + number, None)
    await RolloutRepository(tx).add(rollout, [bot for bot, _, _ in members])
    for position, (bot, run_id, skipped) in enumerate(members):
        member = Member(rollout.id, bot, position, None, "")
        await RolloutRepository(tx).change_member(member, run_id=run_id, skipped=skipped)
    return rollout


async def fill(store: Store, deployments: int) -> None:
    """Add so many redeploys under way and a tenth as many rollouts of them, and some of everything else."""
    async with store.write() as tx:
        for name in ("new", "gone", "found", "ill", "stuck", "ended"):
            await tx.add_bot(bot_named(name))
        await tx.change_bot("stuck", quarantined_at=NOW, quarantine_reason="three attempts")
        await add_run(tx, "new", "deploy", steps=2)
        await add_run(tx, "gone", "retire")
        await add_run(tx, "found", "adopt")
        await add_run(
            tx, "ill", "recover", tier="restart", status="blocked", reason="fleet: too many are ill"
        )
        ended = await add_run(tx, "ended", "redeploy", steps=6, ended="deployed")
        failed = await add_run(tx, "ended", "redeploy", steps=3, ended="failed")
        names = [f"bot-{number}" for number in range(deployments)]
        runs = {}
        for number, name in enumerate(names):
            await tx.add_bot(bot_named(name))
            runs[name] = await add_run(tx, name, "redeploy", steps=1 + number % 6)
        for number in range(max(1, deployments // 10)):
            under_way = [(name, runs[name], "") for name in names[10 * number : 10 * number + 10]]
            ends = [("ended", ended, ""), ("new", failed, ""), ("ill", None, ""), ("gone", None, "it left")]
            await add_rollout(tx, number, [*under_way, *ends[: 1 + number % 4]])
        difference = {"field": "ami", "stored": "a", "real": "b", "fix": "redeploy", "since": NOW}
        report = {"at": NOW - 5, "problem": "", "bots": {"ill": [difference]}, "launched": {"ill": NOW - 99}}
        await tx.set_fact(FACT, report)
        await tx.set_fact("storm", asdict(Storm(True, NOW - 9, NOW)))
        away = Dependency("mute", "provider", "anthropic", "all 3 are mute", NOW, NOW)
        await tx.set_fact(DEPENDENCIES, [asdict(away)])
        await tx.set_fact(ORPHANS, {"i-1": NOW, "i-2": NOW, "vol-1": NOW, "eipalloc-1": NOW})
        await tx.set_scaling("support", "staging", {"past": {}, "bots": 3, "capacity": 0.5})
        await tx.set_scaling("support", "production", {"bots": 9, "capacity": 1.0})  # which scales no more
        await tx.set_scaling("gone", "staging", {"bots": 9, "capacity": 1.0})


async def scrape(store: Store) -> str:
    async with store.read() as tx:
        groups: Source = partial(scaling.samples, templates=SCALED)
        return generate_latest(await read_state(tx, (groups, *SOURCES))).decode()


@pytest.mark.parametrize("deployments", [5, 500])
async def test_a_scrape_takes_as_many_statements_whatever_is_under_way(
    store: Store, deployments: int
) -> None:
    await fill(store, deployments)
    with counted_statements() as statements:
        text = await scrape(store)
    assert text.count("\nbot_deployment_progress_ratio{") == deployments + 3
    assert text.count("\nbot_rollout_progress_ratio{") == max(1, deployments // 10)
    assert len(statements) == STATEMENTS, statements


async def test_a_scrape_has_the_same_percentages_as_the_api(store: Store) -> None:
    await fill(store, 40)
    lines = (await scrape(store)).splitlines()
    async with store.read() as tx:
        for run in await tx.active_runs():
            if run.kind != "recover":
                percent = (await deployment_view(tx, run))["percent"]
                series = f'bot_deployment_progress_ratio{{bot="{run.bot}",kind="{run.kind}"}}'
                assert f"{series} {percent / 100}" in lines
        going = await RolloutRepository(tx).with_status("running", "paused")
        assert {rollout.status for rollout in going} == {"running", "paused"}
        for rollout in going:
            percent = (await rollouts.rollout_view(tx, rollout))["percent"]
            assert 0 < percent < 100
            assert f'bot_rollout_progress_ratio{{rollout="{rollout.id}"}} {percent / 100}' in lines


async def test_a_scrape_has_the_state_of_bots_and_of_runs(store: Store) -> None:
    await fill(store, 1)
    lines = (await scrape(store)).splitlines()
    assert 'bot_remediation_active{bot="ill",kind="recover",tier="restart"} 1.0' in lines
    assert 'bot_remediation_blocked{bot="ill",reason="fleet"} 1.0' in lines
    assert 'bot_quarantined{bot="stuck"} 1.0' in lines
    assert 'bot_config_version{bot="new"} 2.0' in lines
    assert 'bot_config_drift{bot="ill",field="ami"} 1.0' in lines
    assert f"bot_config_drift_last_look_timestamp_seconds {NOW - 5}" in lines
    assert f'bot_instance_launch_timestamp_seconds{{bot="ill"}} {NOW - 99}' in lines
    assert "bot_remediator_managed_bots 7.0" in lines


async def test_a_scrape_of_any_replica_has_what_one_of_them_wrote_down(store: Store) -> None:
    """None publishes what it saw itself when it led, or when a gate last asked it."""
    await fill(store, 1)
    lines = (await scrape(store)).splitlines()
    assert "bot_remediation_storm_active 1.0" in lines
    assert 'bot_remediation_dependency_active{symptom="mute"} 1.0' in lines
    assert 'bot_remediation_dependency_active{symptom="deaf"} 0.0' in lines
    assert "bot_orphan_instances 2.0" in lines
    group = '{environment="staging",template="support"}'
    series = {line for line in lines if line.startswith("bot_scaling_")}
    assert series == {
        f"bot_scaling_bots{group} 3.0",
        f"bot_scaling_capacity_ratio{group} 0.5",
        f"bot_scaling_target_ratio{group} 0.75",
    }


def test_no_gauge_is_kept_in_memory_but_the_one_that_never_changes() -> None:
    names = {series.name for series in SERIES}
    kept = {family.name for family in Metrics("1").registry.collect() if family.type == "gauge"}
    assert kept & names == {"bot_remediator_build_info"}


async def test_series_without_samples_are_described(store: Store) -> None:
    """A dashboard over a new service finds the names."""
    text = await scrape(store)
    assert "# TYPE bot_rollout_active gauge\n# HELP" in text
    assert "bot_remediator_managed_bots 0.0" in text


async def test_every_series_is_there_from_the_start_with_its_counters_at_zero(alone: Api) -> None:
    body = await alone.get("/metrics")
    families = {(family.name, family.type): family for family in text_string_to_metric_families(body)}
    for series in SERIES:
        family = families[series.name.removesuffix("_total"), series.kind]
        assert family.documentation == series.help
        if series.kind == "counter" and "bot" not in series.labels:  # there is no bot here
            assert family.samples, series.name
            assert all(sample.value == 0 for sample in family.samples), series.name
            assert all(set(sample.labels) == set(series.labels) for sample in family.samples)
    assert ("process_resident_memory_bytes", "gauge") in families
    assert await alone.metric("bot_remediation_fleet_unhealthy_ratio_limit") == 1
