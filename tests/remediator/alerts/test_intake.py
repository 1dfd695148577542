"""Alerts in: whatever is resent, doubled, reordered or wrong, and whatever becomes of the disk."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from remediator.api.body import ALERTS_LIMIT
from remediator.configuration.rendering import render
from remediator.engine.engine import Engine
from remediator.model import Bot
from remediator.store.store import Store
from sandbox.process.waiting import wait_until
from templates import BUNDLED, load
from tests.remediator.conftest import (
    Api,
    Remediator,
    World,
    firing,
    read_rows,
    resolved,
    serve,
    settings_for,
    webhook,
    write_rows,
)
from tests.remediator.recovery.episodes import run_chat

RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]
LATER = "2099-01-01T00:00:00Z"


@dataclass
class Nowhere:
    """An app whose bots do not answer and whose AWS is not there: every run waits for the fleet gate."""

    database: Path

    def app(self, **changes: Any) -> AbstractAsyncContextManager[Api]:
        """Run it, with these settings changed."""
        return serve(settings_for(self.database, fleet_max_unhealthy_ratio=0, **changes))

    async def register(self, *names: str) -> None:
        """Put bots into the registry."""
        store = await Store.open(f"sqlite:///{self.database}")
        for name in names:
            facts: dict[str, Any] = {
                "boot_id": None,
                "started_at": None,
                "quarantined_at": None,
                "quarantine_reason": None,
            }
            facts |= {"name": name, "template": "support", "environment": "staging", "state": "active"}
            facts |= {"address": "127.0.0.1:9", "health_path": "/health", "mesh_path": "/mesh"}
            facts |= {"zone": "", "attempts_from": 0}
            config, sha = render(name, "staging", load(BUNDLED).get("support", "staging"))
            facts |= {"instance_id": "i-1", "config": config, "config_sha": sha}
            facts |= {"created_at": 0, "updated_at": 0}
            async with store.write() as tx:
                await tx.add_bot(Bot(**facts))
        await store.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read from the database."""
        return read_rows(self.database, query)

    async def execute(self, statement: str) -> None:
        """Write to the database."""
        await write_rows(self.database, statement)


@pytest.fixture
async def nowhere(tmp_path: Path) -> Nowhere:
    nowhere = Nowhere(tmp_path / "remediator.db")
    await nowhere.register("forge", "atlas")
    return nowhere


@pytest.fixture
async def app(nowhere: Nowhere) -> AsyncIterator[Api]:
    async with nowhere.app() as api:
        yield api


async def test_the_same_payload_again_and_from_two_senders_at_once_and_after_a_restart_is_one_run(
    nowhere: Nowhere,
) -> None:
    payload = webhook(firing("forge"), firing("forge", name="BotHealthScoreCritical"))
    async with nowhere.app() as app:
        answers = await asyncio.gather(*(app.post("/alerts", payload) for _ in range(10)))
        assert {answer.status for answer in answers} == {200}
        assert len({run for answer in answers for run in answer.body["recoveries"]}) == 1
    async with nowhere.app() as app:
        assert (await app.post("/alerts", payload)).status == 200
        assert len(await app.recoveries()) == 1
        times = {alert["name"]: alert["timesSeen"] for alert in (await app.get("/dashboard"))["alerts"]}
        assert times == {"BotDown": 11, "BotHealthScoreCritical": 11}
    assert nowhere.rows("select count(*) from runs") == [(1,)]
    started = "select count(*) from audit where event = 'run.started'"
    assert nowhere.rows(started) == [(1,)], "a resend is no news"


async def test_what_is_in_the_answer_is_on_the_disk(nowhere: Nowhere, app: Api) -> None:
    (run_id,) = await app.alert(firing("forge"), resolved(firing("atlas")))
    assert nowhere.rows("select bot, status, run_id from alerts order by bot") == [
        ("atlas", "resolved", None),
        ("forge", "firing", run_id),
    ]
    assert nowhere.rows("select id, bot, trigger from runs") == [(run_id, "forge", "alert")]


async def test_a_resolution_that_overtakes_its_alert_leaves_nothing_to_do(nowhere: Nowhere, app: Api) -> None:
    assert await app.alert(resolved(firing("forge"))) == []
    assert await app.alert(firing("forge")) == []
    assert nowhere.rows("select count(*) from runs") == [(0,)]


async def test_a_resolution_ends_the_run_that_waits(app: Api) -> None:
    (run_id,) = await app.alert(firing("forge"))
    await app.until_status(f"/recover/{run_id}", "blocked")
    assert await app.alert(resolved(firing("forge"))) == [run_id]
    assert (await app.until_ended(f"/recover/{run_id}"))["status"] == "resolved"


async def test_an_alert_that_joins_while_its_run_is_ending_as_resolved_keeps_it_going(
    nowhere: Nowhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the gate's verdict and the end of the run: the alert was answered with a 2xx."""
    finish = Engine._finish
    joined: list[list[str]] = []
    async with nowhere.app() as app:

        async def finish_late(engine: Engine, run: Any, lease: Any, ended: Any) -> bool:
            if ended.outcome == "resolved" and not joined:
                joined.append(await app.alert(firing("forge", name="BotHealthScoreCritical")))
            return await finish(engine, run, lease, ended)

        async def has_joined() -> bool:
            return bool(joined)

        monkeypatch.setattr(Engine, "_finish", finish_late)
        (run_id,) = await app.alert(firing("forge"))
        await app.until_status(f"/recover/{run_id}", "blocked")
        await app.alert(resolved(firing("forge")))
        await wait_until(has_joined, what="the alert that came late")
        await app.until_status(f"/recover/{run_id}", "blocked")
        assert joined == [[]], "it joined the run that was ending"
        run = await app.get(f"/recover/{run_id}")
        assert (run["status"], run["finishedAt"]) == ("blocked", None)
        await app.alert(resolved(firing("forge", name="BotHealthScoreCritical")))
        assert (await app.until_ended(f"/recover/{run_id}"))["status"] == "resolved"


async def test_only_firing_members_act_whatever_the_group_says(nowhere: Nowhere, app: Api) -> None:
    assert await app.alert(resolved(firing("forge")), status="firing") == []
    assert len(await app.alert(firing("atlas"), status="resolved")) == 1
    assert nowhere.rows("select bot from runs") == [("atlas",)]


async def test_alerts_that_are_not_for_us_start_nothing_and_are_counted_by_their_reason(app: Api) -> None:
    nobody, unlabelled, people = firing("stranger"), firing("forge", name="A"), firing("forge", name="B")
    del unlabelled["labels"]["bot"]
    del people["labels"]["remediation"]
    assert await app.alert(nobody, unlabelled, people) == []
    for reason in ("unknown_bot", "no_bot_label", "no_auto_remediation"):
        sample = f'bot_remediator_alerts_ignored_total{{reason="{reason}"}}'
        assert await app.metric(sample) == 1
    reasons = {alert["name"]: alert["ignored"] for alert in (await app.get("/dashboard"))["alerts"]}
    assert reasons == {"BotDown": "unknown_bot", "A": "no_bot_label", "B": "no_auto_remediation"}


async def test_alerts_that_alertmanager_left_out_are_counted(app: Api) -> None:
    await app.alert(firing("stranger"), truncatedAlerts=7)
    assert await app.metric("bot_remediator_alerts_truncated_total") == 7
    assert await app.metric('bot_remediator_alerts_total{status="firing"}') == 1
    assert await app.metric('bot_remediator_alerts_total{status="resolved"}') == 0


async def test_people_are_told_once_of_alerts_that_are_left_out_of_payloads(nowhere: Nowhere) -> None:
    async with run_chat() as chat, nowhere.app(**chat.settings) as app:
        assert await app.alert(truncatedAlerts=3) == []
        assert "left 3 alerts out of a payload" in await chat.until_message("Alertmanager")
        await app.alert(truncatedAlerts=4)
        assert await app.metric("bot_remediator_alerts_truncated_total") == 7
        assert read_rows(nowhere.database, "select count(*) from notifications") == [(1,)]


async def test_a_large_group_is_taken_in_whole(app: Api) -> None:
    assert await app.alert(*(firing(f"stranger-{number}") for number in range(100))) == []
    assert await app.metric('bot_remediator_alerts_total{status="firing"}') == 100


DEEP = b"[" * 100_000
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "body"),
    "rubbish": (b"\x00\xff\xfe rubbish", 400, "body"),
    "half of it": (b'{"version": "4", "alerts": [', 400, "body"),
    "invalid UTF-8": (b'{"version": "\xc3\x28"}', 400, "body"),
    "half a surrogate pair": (b'{"version": "4", "alerts": [], "\\ud800": 1}', 400, "body"),
    "a number that never ends": (b'{"truncatedAlerts": ' + b"9" * 5000 + b"}", 400, "body"),
    "too deep": (DEEP, 400, "body"),
    "too deep, and closed": (DEEP + b"]" * 100_000, 400, "body"),
    "a list": (b"[]", 400, "body"),
    "another version": (b'{"version": "3", "alerts": []}', 400, "version"),
    "no alerts": (b'{"version": "4"}', 400, "alerts"),
    "an alert without a fingerprint": (
        b'{"version":"4","alerts":[{"status":"firing","labels":{},"startsAt":"2026-01-01T00:00:00Z"}]}',
        400,
        "alerts.0.fingerprint",
    ),
    "too much": (b'{"version": "4", "x": "' + b"x" * 10_000_000 + b'"}', 413, "body"),
}


async def test_what_cannot_be_a_webhook_is_refused_by_field_and_the_service_lives(app: Api) -> None:
    for name, (body, status, field) in REFUSED.items():
        answer = await app.call("POST", "/alerts", data=BytesIO(body))
        assert (answer.status, answer.field) == (status, field), name
        assert answer.body["error"]["message"], name
        assert answer.body["error"]["remedy"], name
        assert (await app.get("/health"))["status"] == "healthy", name
    assert (await app.post("/alerts", webhook())).status == 200


async def test_a_body_that_says_nothing_of_its_size_is_bounded_too(app: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 + ALERTS_LIMIT // 1_000_000):
            yield b" " * 1_000_000

    answer = await app.call("POST", "/alerts", data=endless())
    assert (answer.status, answer.field) == (413, "body")
    assert (await app.get("/health"))["status"] == "healthy"


async def test_a_store_that_refuses_answers_503_and_nothing_is_acted_on(nowhere: Nowhere, app: Api) -> None:
    await nowhere.execute(
        "create trigger broken before insert on runs begin select raise(abort, 'broken'); end"
    )
    answer = await app.post("/alerts", webhook(firing("forge")))
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert answer.body["error"]["message"] == "the store cannot be used"
    assert nowhere.rows("select (select count(*) from alerts), (select count(*) from runs)") == [(0, 0)]
    assert (await app.get("/health"))["status"] == "healthy"
    await nowhere.execute("drop trigger broken")
    assert len(await app.alert(firing("forge"))) == 1, "and what is sent again is taken in"


async def test_a_run_survives_a_store_that_is_broken_for_a_while(nowhere: Nowhere, app: Api) -> None:
    """Its task stumbles, and is taken up again."""
    (run_id,) = await app.alert(firing("forge"))
    await app.until_status(f"/recover/{run_id}", "blocked")
    await nowhere.execute(
        "create trigger broken before update on runs begin select raise(abort, 'broken'); end"
    )
    await app.alert(resolved(firing("forge")))
    run = await app.get(f"/recover/{run_id}")
    assert run["finishedAt"] is None
    await nowhere.execute("drop trigger broken")
    assert (await app.until_ended(f"/recover/{run_id}"))["status"] == "resolved"


async def test_a_full_disk_answers_503_loses_nothing_it_accepted_and_is_got_over(
    run_remediator: RunRemediator, world: World
) -> None:
    """The process may not make a file larger than so many bytes: for SQLite the same as a full disk."""
    bot = world.name()
    async with run_remediator(world.cloud) as remediator:
        await remediator.api.deployed(bot)
        await world.cloud.fault(bot, "die")
        pid = remediator.process.pid
        assert pid is not None
        _, limit = resource.prlimit(pid, resource.RLIMIT_FSIZE, (512 * 1024, resource.RLIM_INFINITY))
        big = firing(bot)
        big["annotations"]["description"] = "x" * 2_000_000
        for _ in range(3):
            answer = await remediator.api.call(
                "POST", "/alerts", data=BytesIO(json.dumps(webhook(big)).encode())
            )
            assert answer.status == 503
        assert (await remediator.api.get("/health"))["managed_bots"] == 1
        assert remediator.rows("select count(*) from alerts") == [(0,)]
        assert await world.actions(bot) == ["run"]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
        (run_id,) = await remediator.api.alert(firing(bot))
        assert (await remediator.api.until_ended(f"/recover/{run_id}"))["status"] == "recovered"
        assert await world.actions(bot) == ["run", "restart"]
