"""Versions of a bot's configuration: what is kept of each, what differs, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import templates
from remediator.configuration.rendering import render
from remediator.configuration.versions import live, record
from remediator.model import ConfigVersion
from remediator.store.database import MIGRATIONS
from remediator.store.errors import ConflictError
from remediator.store.store import Store
from tests.remediator.conftest import Answer, Api, World, read_rows
from tests.stores import Clock, open_store

PLANTED = "8142:AAF-planted-token"
BASE, _ = render("forge", "production", templates.load().get("support", "production"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with open_store(request.param, tmp_path, clock) as opened:
        yield opened


async def recorded(store: Store, fields: dict[str, Any], bot: str = "forge", **changes: Any) -> int:
    """Record a configuration that has these fields beside those of BASE; return its number."""
    facts: dict[str, Any] = {"actor": "ada", "reason": "because", "origin": "change", **changes}
    async with store.write() as tx:
        return await record(tx, bot, {**BASE, **fields}, str(sorted(fields.items())), **facts)


async def test_versions_count_up_by_bot_and_keep_who_when_why_and_what(store: Store, clock: Clock) -> None:
    assert await recorded(store, {"a": 1}, origin="deploy") == 1
    clock.now += 10
    assert await recorded(store, {"a": 2, "b": 1}, actor="bob", reason="more", overrides={"a": 2}) == 2
    assert await recorded(store, {"a": 1}, bot="other") == 1
    async with store.read() as tx:
        first, second = await tx.versions("forge")
        assert await tx.version("forge", 2) == await tx.version("forge") == second
        assert await tx.version("forge", 3) is None
        assert await tx.version("nobody") is None
        trail = await tx.audit_trail(bot="forge", after=None, limit=9)
    assert (first.at, first.actor, first.reason, first.origin) == (1000, "ada", "because", "deploy")
    assert (first.diff, first.overrides) == ([], {})
    assert second == ConfigVersion(
        bot="forge",
        version=2,
        config={**BASE, "a": 2, "b": 1},
        config_sha="[('a', 2), ('b', 1)]",
        overrides={"a": 2},
        at=1010,
        actor="bob",
        reason="more",
        origin="change",
        diff=[{"path": "a", "from": 1, "to": 2}, {"path": "b", "to": 1}],
    )
    assert [(entry.event, entry.actor, entry.detail["version"]) for entry in trail] == [
        ("config.recorded", "ada", 1),
        ("config.recorded", "bob", 2),
    ]


async def test_the_content_of_the_newest_makes_no_new_version_and_older_content_does(store: Store) -> None:
    assert await recorded(store, {"a": 1}) == 1
    assert await recorded(store, {"a": 1}) == 1
    assert await recorded(store, {"a": 2}) == 2
    assert await recorded(store, {"a": 1}, origin="rollback") == 3
    async with store.read() as tx:
        assert [(version.version, version.origin) for version in await tx.versions("forge")] == [
            (1, "change"), (2, "change"), (3, "rollback"),
        ]  # fmt: skip


async def test_overrides_are_kept_on_unless_they_are_named(store: Store) -> None:
    await recorded(store, {"a": 1}, overrides={"a": 1})
    assert await recorded(store, {"a": 2}) == 2
    assert await recorded(store, {"a": 2}, overrides={}) == 3, "the same content, but no more of its own"
    async with store.read() as tx:
        assert [version.overrides for version in await tx.versions("forge")] == [{"a": 1}, {"a": 1}, {}]


async def test_replicas_that_record_at_once_never_give_a_number_twice(postgres_url: str) -> None:
    """On PostgreSQL. The second to come is refused as a whole, and may ask again."""
    first, second = [await Store.open(postgres_url) for _ in range(2)]
    try:
        calls = [recorded(store, {"a": n}) for n, store in enumerate([first, second] * 4)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        async with first.read() as tx:
            versions = await tx.versions("forge")
    finally:
        await first.close()
        await second.close()
    numbers = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert all(isinstance(outcome, int | ConflictError) for outcome in outcomes), outcomes
    assert sorted(numbers) == [version.version for version in versions]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    for before, after in pairwise(versions):
        assert after.diff == [{"path": "a", "from": before.config["a"], "to": after.config["a"]}]


async def test_what_is_live_changes_with_the_address_and_not_when_it_is_recorded(store: Store) -> None:
    probe = {**BASE["probe"], "mesh_path": "/ready"}
    await recorded(store, {"probe": probe}, overrides={"probe": {"mesh_path": "/ready"}})
    async with store.read() as tx:
        newest = await tx.version("forge")
        assert await tx.bot("forge") is None
    assert newest is not None
    assert live(newest) == {
        "version": 1,
        "config": {**BASE, "probe": probe},
        "config_sha": newest.config_sha,
        "overrides": {"probe": {"mesh_path": "/ready"}},
        "health_path": "/health",
        "mesh_path": "/ready",
    }


# over HTTP


async def refused(api: Api, path: str, body: dict[str, Any], status: int, field: str) -> Answer:
    answer = await api.post(path, body)
    assert (answer.status, answer.field) == (status, field), answer
    assert answer.body["error"].get("remedy")
    return answer


async def test_a_deploy_with_overrides_is_version_1_and_its_warnings_are_told(app: Api, world: World) -> None:
    bot = world.name()
    wish = {"botName": bot, "botType": "support", "telegramToken": PLANTED, "environment": "production"}
    overrides = {"heartbeat": "30s", "probe": {"mesh_path": "/health"}, "storage": None}
    answer = await app.post("/deploy", {**wish, "overrides": overrides})
    assert answer.status == 202
    assert [warning.partition(":")[0] for warning in answer.body["warnings"]] == [
        "memory",
        "heartbeat",
        "heartbeat",
        "dm_policy",
    ]
    assert (await app.until_ended(f"/deploy/{answer.body['deploymentId']}"))["status"] == "deployed"
    (version,) = await app.get(f"/bots/{bot}/versions")
    version = await app.get(f"/bots/{bot}/versions/1")
    assert (version["version"], version["origin"], version["live"], version["diff"]) == (
        1,
        "deploy",
        True,
        [],
    )
    assert version["by"] == "api:127.0.0.1"
    assert version["at"].endswith("Z")
    assert (version["config"]["heartbeat"], version["config"]["storage"]) == ("30s", "10GB")
    assert version["overrides"] == {"heartbeat": "30s", "probe": {"mesh_path": "/health"}}
    assert version["warnings"] == answer.body["warnings"]
    (registered,) = await app.get("/sd")
    assert registered["labels"]["__mesh_path__"] == "/health"
    assert await app.metric(f'bot_config_version{{bot="{bot}"}}') == 1
    assert PLANTED not in str(version)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"telegramToken": PLANTED}, "overrides.telegramToken"),
        ({"model": PLANTED}, "overrides.model"),
        ({"name": "other"}, "overrides.name"),
        ({"probe": {"port": "80"}}, "overrides.probe.port"),
        ({"memory": "2GB"}, "overrides.memory"),
        ([PLANTED], "overrides"),
    ],
)
async def test_a_wrong_override_is_refused_by_field_and_nothing_is_begun(
    app: Api, world: World, overrides: Any, field: str
) -> None:
    bot = world.name()
    wish = {"botName": bot, "botType": "support", "telegramToken": PLANTED, "environment": "production"}
    answer = await refused(app, "/deploy", {**wish, "overrides": overrides}, 422, field)
    assert PLANTED not in str(answer.body)
    assert (await app.call("GET", f"/bots/{bot}/versions")).status == 404
    assert (await app.get("/dashboard"))["registry"] == []


async def test_a_change_is_a_version_that_waits_for_its_redeploy(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = (await app.get("/dashboard"))["registry"][0]["config_sha"]
    path = f"/bots/{bot}/config"
    change = {"overrides": {"heartbeat": "2h"}, "reason": "less noise", "by": "ada"}
    first = (await app.post(path, change)).body
    assert (first["version"], first["live"], first["deploymentId"]) == (2, 1, None)
    assert first["diff"] == [{"path": "heartbeat", "from": "1h", "to": "2h"}]
    assert first["overrides"] == {"heartbeat": "2h"}
    assert (await app.post(path, {**change, "reason": "again"})).body["version"] == 2
    second = (await app.post(path, {"overrides": {"storage": "20GB"}, "reason": "room"})).body
    assert second["overrides"] == {"heartbeat": "2h", "storage": "20GB"}
    third = (await app.post(path, {"overrides": {"heartbeat": None}, "reason": "enough"})).body
    assert (third["version"], third["overrides"]) == (4, {"storage": "20GB"})
    assert [
        (version["version"], version["live"], version["by"], version["reason"])
        for version in await app.get(f"/bots/{bot}/versions")
    ] == [
        (4, False, "api:127.0.0.1", "enough"),
        (3, False, "api:127.0.0.1", "room"),
        (2, False, "ada", "less noise"),
        (1, True, "api:127.0.0.1", "deployed as support"),
    ]
    (registered,) = (await app.get("/dashboard"))["registry"]
    assert registered["config_sha"] == before, "nothing was redeployed"
    assert await world.actions(bot) == ["run"]
    events = [entry["event"] for entry in await app.get(f"/audit?bot={bot}")]
    assert events.count("config.recorded") == 4


async def test_two_versions_are_compared_as_json_and_as_text(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    for heartbeat in ("2h", "3h"):
        await app.post(f"/bots/{bot}/config", {"overrides": {"heartbeat": heartbeat}, "reason": "quiet"})
    assert await app.get(f"/bots/{bot}/diff") == {
        "bot": bot,
        "from": 2,
        "to": 3,
        "diff": [{"path": "heartbeat", "from": "2h", "to": "3h"}],
    }
    assert (await app.get(f"/bots/{bot}/diff?from=3&to=1"))["diff"] == [
        {"path": "heartbeat", "from": "3h", "to": "1h"}
    ]
    text = await app.call("GET", f"/bots/{bot}/diff?from=1&to=3", headers={"Accept": "text/plain"})
    lines = text.body.splitlines()
    assert lines[0].startswith(f"--- {bot} 1, deploy by api:127.0.0.1 at 20")
    assert lines[1].startswith(f"+++ {bot} 3, change by api:127.0.0.1 at 20")
    assert lines[2:] == ["~ heartbeat: 1h → 3h"]
    same = await app.call("GET", f"/bots/{bot}/diff?from=1&to=1", headers={"Accept": "text/plain"})
    assert same.body.splitlines()[2:] == ["the same"]


async def test_what_does_not_exist_is_named(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    change: dict[str, Any] = {"overrides": {}, "reason": "why"}
    for path, field in [
        ("/bots/nobody/versions", "bot"),
        ("/bots/nobody/diff", "bot"),
        ("/bots/nobody/versions/1", "version"),
        (f"/bots/{bot}/versions/2", "version"),
        (f"/bots/{bot}/versions/one", "version"),
        (f"/bots/{bot}/versions/99999999999999999999", "version"),
        (f"/bots/{bot}/diff?from=7", "from"),
        (f"/bots/{bot}/diff?to=7", "to"),
    ]:
        answer = await app.call("GET", path)
        assert (answer.status, answer.field) == (404, field), path
    await refused(app, "/bots/nobody/config", change, 404, "bot")
    await refused(app, "/bots/nobody/rollback", {"reason": "why"}, 404, "bot")
    await refused(app, f"/bots/{bot}/rollback", {"reason": "why"}, 409, "version")
    await refused(app, f"/bots/{bot}/rollback", {"reason": "why", "version": 1}, 409, "version")
    await refused(app, f"/bots/{bot}/rollback", {"reason": "why", "version": 9}, 404, "version")
    await refused(app, f"/bots/{bot}/rollback", {"reason": "why", "version": "1"}, 422, "version")
    await refused(app, f"/bots/{bot}/rollback", {}, 422, "reason")
    await refused(app, f"/bots/{bot}/config", {"overrides": {}, "reason": ""}, 422, "reason")
    await refused(app, f"/bots/{bot}/config", {**change, "apply": "yes"}, 422, "apply")
    await refused(app, f"/bots/{bot}/config", {**change, "overrides": {"model": "x"}}, 422, "overrides.model")
    assert len(await app.get(f"/bots/{bot}/versions")) == 1


async def test_the_migration_makes_version_1_of_what_each_bot_has(tmp_path: Path) -> None:
    """From the schema of the release before, with two bots in it."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    database = tmp_path / "s.db"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{database}")

    def migrate(step: Callable[[Config, str], None], revision: str) -> None:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            step(config, revision)

    migrate(command.upgrade, "0002")
    row = (
        "support",
        "staging",
        "active",
        "127.0.0.2:1",
        "/health",
        "/mesh",
        "i-1",
        '{"a": 1}',
        "sha",
        7.0,
        8.0,
    )
    with engine.begin() as connection:
        for name in ("forge", "anvil"):
            connection.exec_driver_sql(
                "INSERT INTO bots (name, template, environment, state, address, health_path, mesh_path,"
                " instance_id, config, config_sha, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (name, *row),
            )
    migrate(command.upgrade, "head")
    engine.dispose()
    store = await Store.open(f"sqlite:///{database}")
    async with store.read() as tx:
        for bot in await tx.bots():
            (version,) = await tx.versions(bot.name)
            assert (bot.version, bot.overrides) == (1, {})
            assert (version.version, version.origin, version.at) == (1, "deploy", 7.0)
            assert (version.config, version.config_sha) == (bot.config, bot.config_sha) == ({"a": 1}, "sha")
    await store.close()
    migrate(command.downgrade, "0002")
    engine.dispose()
    columns = [column[1] for column in read_rows(database, "PRAGMA table_info(bots)")]
    assert "version" not in columns
    assert "overrides" not in columns


# by a redeploy


async def applied(app: Api, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a call that redeploys; return its answer, and how the deployment ended."""
    answer = await app.post(path, body)
    assert answer.status == 202, answer
    assert answer.headers["Location"] == f"/deploy/{answer.body['deploymentId']}"
    return answer.body, await app.until_ended(answer.headers["Location"])


async def running(app: Api, bot: str) -> tuple[str, str]:
    """Return the config_sha that the bot itself reports, and the one that is registered."""
    (group,) = [group for group in await app.get("/sd") if group["labels"]["bot"] == bot]
    async with app.session.get(f"http://{group['targets'][0]}/mesh") as response:
        told = await response.json()
    registry = (await app.get("/dashboard"))["registry"]
    (registered,) = [entry for entry in registry if entry["bot"] == bot]
    return told["config_sha"], registered["config_sha"]


async def live_of(app: Api, bot: str) -> list[tuple[int, str, bool]]:
    """Return (number, origin, whether it is live) of each version, newest first."""
    versions = await app.get(f"/bots/{bot}/versions")
    return [(version["version"], version["origin"], version["live"]) for version in versions]


async def test_a_change_is_applied_and_rolled_back_and_a_recovery_keeps_what_runs(
    app: Api, world: World
) -> None:
    """After the rollback the bot's own instance is lost: what comes back has the version that was live."""
    bot = world.name()
    await app.deployed(bot)
    first, _ = await running(app, bot)
    change = {"overrides": {"heartbeat": "2h"}, "reason": "less noise", "apply": True, "by": "ada"}
    answer, ended = await applied(app, f"/bots/{bot}/config", change)
    assert ended["status"] == "deployed", ended
    assert (answer["version"], answer["live"]) == (2, 1)
    assert await running(app, bot) == (answer["configSha"], answer["configSha"]) != (first, first)
    assert await live_of(app, bot) == [(2, "change", True), (1, "deploy", False)]
    assert (await app.post(f"/bots/{bot}/config", change)).status == 200, "it runs that already"

    back, ended = await applied(app, f"/bots/{bot}/rollback", {"reason": "too quiet", "by": "bob"})
    assert ended["status"] == "deployed", ended
    assert (back["version"], back["rolledBackTo"], back["configSha"]) == (3, 1, first)
    assert back["diff"] == [{"path": "heartbeat", "from": "2h", "to": "1h"}]
    assert await running(app, bot) == (first, first)
    assert await live_of(app, bot) == [
        (3, "rollback", True), (2, "change", False), (1, "deploy", False)
    ]  # fmt: skip
    (newest, *_) = await app.get(f"/bots/{bot}/versions")
    assert (newest["by"], newest["reason"]) == ("bob", "back to version 1: too quiet")
    assert (await app.get(f"/bots/{bot}/versions/3"))["overrides"] == {}
    assert await app.metric(f'bot_config_version{{bot="{bot}"}}') == 3
    assert await app.metric("bot_config_rollbacks_total") == 1

    waiting = {"overrides": {"heartbeat": "5h"}, "reason": "for later"}
    assert (await app.post(f"/bots/{bot}/config", waiting)).body["version"] == 4
    assert (await app.recover(bot, "redeploy"))["status"] == "recovered"
    assert await running(app, bot) == (first, first), "neither the template nor what waits: what was live"
    assert (await live_of(app, bot))[:2] == [(4, "change", False), (3, "rollback", True)]


async def test_a_redeploy_that_fails_leaves_the_version_that_runs(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = await running(app, bot)
    await world.cloud.break_api("RunInstances", "refuse", code="UnauthorizedOperation", message="No.")
    change = {"overrides": {"heartbeat": "2h"}, "reason": "less noise", "apply": True}
    answer, ended = await applied(app, f"/bots/{bot}/config", change)
    assert ended["status"] == "failed", ended
    assert await running(app, bot) == before
    assert await live_of(app, bot) == [(2, "change", False), (1, "deploy", True)]
    again, ended = await applied(app, f"/bots/{bot}/config", change)
    assert (again["version"], ended["status"]) == (2, "deployed"), "what waited is what is applied"
    assert await running(app, bot) == (answer["configSha"], answer["configSha"])


async def test_a_bot_in_other_hands_is_not_changed_and_its_versions_say_so(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.break_api("RunInstances", "delay", seconds=2)
    change = {"overrides": {"heartbeat": "2h"}, "reason": "less noise", "apply": True}
    answer = await app.post(f"/bots/{bot}/config", change)
    change["overrides"] = {"heartbeat": "3h"}
    refusal = await refused(app, f"/bots/{bot}/config", change, 409, "bot")
    assert answer.body["deploymentId"] in refusal.body["error"]["message"]
    assert len(await app.get(f"/bots/{bot}/versions")) == 2, "a refused change leaves no version"
    assert (await app.until_ended(answer.headers["Location"]))["status"] == "deployed"
