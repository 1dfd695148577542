"""A restored registry is compared with EC2 before anything is done by it."""

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pyrage
import pytest

from remediator.aws.aws import Aws
from remediator.aws.elastic_ips import Address
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance
from remediator.backup.archive import Archive
from remediator.backup.encryption import decrypt
from remediator.backup.post_restore import NotComparedError, compare, reconcile_after_restore
from remediator.backup.restore import RESTORED, Restore
from remediator.model import Bot, Run
from remediator.store.database import Database
from remediator.store.store import Store
from tests.remediator.backup.crashes import Crash, crash_at
from tests.remediator.conftest import Api, World, firing, serve, settings_for

NOW = 1_795_000_000.0


def a_bot(name: str = "forge", instance: str = "i-1", **changes: Any) -> Bot:
    made: dict[str, Any] = dict.fromkeys(Bot.__slots__, "")
    made |= {"config": {"probe": {"port": 18790}}, "overrides": {}, "version": 1, "state": "active"}
    made |= {"boot_id": None, "started_at": None, "quarantined_at": None, "quarantine_reason": None}
    made |= {"attempts_from": 0.0, "created_at": NOW, "updated_at": NOW, "standby_until": None}
    made |= {"template": "support", "environment": "staging", "config_sha": "a" * 64}
    made |= {"health_path": "/health", "mesh_path": "/mesh", "address": "10.0.0.1:18790" if instance else ""}
    return Bot(**made | {"name": name, "instance_id": instance, **changes})


def an_instance(
    id_: str = "i-1",
    bot: str = "forge",
    role: str = "active",
    deployment: str = "dep-1",
    state: str = "running",
) -> Instance:
    tags = {"bot-orchestrator:managed": "true", "bot-orchestrator:bot": bot}
    tags |= {"bot-orchestrator:role": role, "bot-orchestrator:deployment": deployment}
    return Instance(id=id_, state=state, private_address="10.0.0.9", public_address="", tags=tags)


def a_run(id_: str = "dep-1", kind: Any = "deploy", bot: str = "forge") -> Run:
    return Run(id_, kind, bot, "manual", "", "running", "under way", "", NOW, None)


def by_id(*instances: Instance) -> dict[str, Instance]:
    return {instance.id: instance for instance in instances}


# what is concluded


@pytest.mark.parametrize(
    ("bot", "instances", "what", "which"),
    [
        (a_bot(), [an_instance()], "same", "i-1"),
        (a_bot(), [an_instance(role="")], "same", "i-1"),
        (a_bot(), [an_instance(), an_instance("i-2", role="candidate")], "same", "i-1"),
        (a_bot(), [an_instance(state="stopped")], "same", "i-1"),
        (a_bot(), [an_instance(role="standby"), an_instance("i-2")], "adopted", "i-2"),
        (a_bot(), [an_instance(state="terminated"), an_instance("i-2")], "adopted", "i-2"),
        (a_bot(), [an_instance("i-2", role="candidate")], "gone", None),
        (a_bot(), [an_instance("i-2", bot="other")], "gone", None),
        (a_bot(), [], "gone", None),
        (a_bot(), [an_instance(), an_instance("i-2")], "unclear", None),
        (a_bot(instance="", state="deploying"), [an_instance()], "adopted", "i-1"),
        (a_bot(instance="", state="deploying"), [an_instance(role="candidate")], "never deployed", None),
    ],
)
def test_what_the_tags_say_of_a_bot(
    bot: Bot, instances: list[Instance], what: str, which: str | None
) -> None:
    (finding,) = compare([bot], [], by_id(*instances)).findings
    assert (finding.kind, finding.instance.id if finding.instance else None) == (what, which)


def test_an_instance_of_a_bot_that_is_newer_than_the_backup_is_an_orphan() -> None:
    instances = by_id(
        an_instance(), an_instance("i-2", bot="later"), an_instance("i-3", state="terminated", bot="x")
    )
    assert [orphan.id for orphan in compare([a_bot()], [], instances).orphans] == ["i-2"]


def test_the_old_instance_of_a_redeploy_is_no_orphan_while_it_stands_by() -> None:
    bot = a_bot(standby_instance_id="i-0")
    for role, orphans in (("standby", []), ("candidate", ["i-0"])):
        comparison = compare([bot], [], by_id(an_instance(), an_instance("i-0", role=role)))
        assert [orphan.id for orphan in comparison.orphans] == orphans, role


@pytest.mark.parametrize(
    ("run", "role", "is_proved"),
    [
        (a_run(), "active", True),
        (a_run(), "candidate", False),
        (a_run("dep-2"), "active", False),
        (a_run("dep-1", "recover"), "active", False),
        (a_run("dep-1", bot="other"), "active", False),
    ],
)
def test_a_run_is_proved_by_the_active_instance_that_it_launched(
    run: Run, role: str, is_proved: bool
) -> None:
    comparison = compare([a_bot()], [run], by_id(an_instance(role=role)))
    assert dict(comparison.proved) == ({run.id: "i-1"} if is_proved else {})


# what is done about it


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    """Fill a store as a restore leaves it: six bots, some of them in the middle of something."""
    opened_ = await Store.open(f"sqlite:///{tmp_path}/remediator.db")
    async with opened_.write() as tx:
        for bot in (
            a_bot("same"),
            a_bot("moved", "i-old", standby_instance_id="i-older", standby_until=NOW),
            a_bot("gone", "i-gone"),
            a_bot("arriving", "", state="deploying"),
            a_bot("nearly", "", state="deploying"),
            a_bot("leaving", "i-leaving", state="retiring"),
        ):
            await tx.add_bot(bot)
        for run in (
            a_run("dep-n", bot="nearly"),
            a_run("dep-a", bot="arriving"),
            a_run("rec-s", "recover", "same"),
            a_run("ret-l", "retire", "leaving"),
        ):
            await tx.add_run(run)
        await tx.set_fact(RESTORED, {"takenAt": NOW, "at": NOW, "trail": [], "reconciledAt": None})
    yield opened_
    await opened_.close()


class Ec2(Aws):
    """Says what instances there are, or that it cannot be asked."""

    def __init__(self, *instances: Instance, error: AwsError | None = None) -> None:
        self.described, self.error, self.calls = by_id(*instances), error, 0

    async def addresses(self) -> list[Address]:
        return [Address("eipalloc-1", "198.51.100.1", instance_id="i-new")]

    async def instances(self) -> dict[str, Instance]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.described


SEEN = (
    an_instance("i-1", "same"),
    an_instance("i-new", "moved", deployment="red-9"),
    an_instance("i-near", "nearly", deployment="dep-n"),
    an_instance("i-half", "arriving", role="candidate", deployment="dep-a"),
    an_instance("i-later", "later"),
    an_instance("i-leaving", "leaving"),
)


async def state(store: Store) -> dict[str, Any]:
    async with store.read() as tx:
        bots = {bot.name: bot for bot in await tx.bots()}
        runs = {run_id: await tx.run(run_id) for run_id in ("dep-n", "dep-a", "rec-s", "ret-l")}
        events = [(entry.event, entry.bot) for entry in await tx.audit_trail(bot=None, after=0, limit=100)]
        texts = [message.text for message in await tx.unsent()]
        fact = await tx.fact(RESTORED)
    return {"bots": bots, "runs": runs, "events": events, "texts": texts, "fact": fact}


async def test_the_registry_is_made_what_ec2_says_and_people_are_told(store: Store, tmp_path: Path) -> None:
    ec2 = Ec2(*SEEN)
    await reconcile_after_restore(store, ec2, settings_for(tmp_path / "remediator.db"))
    after = await state(store)
    bots, runs = after["bots"], after["runs"]
    assert bots.keys() == {"same", "moved", "gone", "nearly", "leaving"}
    assert (bots["moved"].instance_id, bots["moved"].address) == ("i-new", "10.0.0.9:18790")
    assert bots["moved"].allocation_id == "eipalloc-1"
    assert bots["same"].address == "10.0.0.1:18790"
    assert (bots["moved"].standby_instance_id, bots["moved"].standby_until) == ("", None)
    assert (bots["nearly"].state, bots["nearly"].instance_id) == ("active", "i-near")
    assert bots["gone"].quarantine_reason == "restored from a backup: i-gone is not there any more"
    assert bots["same"].quarantined_at is None
    assert {run_id: run.status for run_id, run in runs.items()} == {
        "dep-n": "deployed",
        "dep-a": "cancelled",
        "rec-s": "cancelled",
        "ret-l": "cancelled",
    }
    assert bots["leaving"].state == "active"
    assert "restored from a backup" in runs["rec-s"].reason
    assert {("restored.adopted", "moved"), ("restored.gone", "gone"), ("run.cancelled", "same")} <= set(
        after["events"]
    )
    (text,) = after["texts"]
    assert "2 instances belong to no bot here: i-half, i-later" in text
    assert "1 bots in quarantine, because their instance is gone: gone" in text
    assert after["fact"]["reconciledAt"] is not None

    await reconcile_after_restore(store, ec2, settings_for(tmp_path / "remediator.db"))
    assert ec2.calls == 1
    assert await state(store) == after


async def test_a_crash_at_any_statement_of_it_is_made_up_for_by_the_next_start(
    store: Store, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path / "remediator.db")
    before = await state(store)
    with crash_at(0) as statements_run, pytest.raises(NotComparedError):
        await reconcile_after_restore(
            store, Ec2(error=AwsError("denied", "DescribeInstances", "", "no")), settings
        )
    statements = statements_run[0]
    for number in range(statements + 1, statements + 60):
        with crash_at(number) as statements_run:
            try:
                await reconcile_after_restore(store, Ec2(*SEEN), settings)
            except Crash:
                assert await state(store) == before, number
                continue
        break
    assert number > statements + 20
    assert (await state(store))["fact"]["reconciledAt"] is not None


async def test_without_an_answer_of_ec2_nothing_is_done(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remediator.backup.post_restore.BACKOFF", (0.01, 0.01))
    before = await state(store)
    ec2 = Ec2(error=AwsError("unavailable", "DescribeInstances", "", "away"))
    with pytest.raises(NotComparedError, match="away"):
        await reconcile_after_restore(store, ec2, settings_for(tmp_path / "remediator.db"))
    assert ec2.calls == 3
    assert await state(store) == before


async def test_a_database_that_was_never_restored_asks_nothing(tmp_path: Path) -> None:
    fresh = await Store.open(f"sqlite:///{tmp_path}/fresh.db")
    ec2 = Ec2()
    await reconcile_after_restore(fresh, ec2, settings_for(tmp_path / "fresh.db"))
    await fresh.close()
    assert ec2.calls == 0


# all of it, over a cloud


async def test_a_restored_service_knows_what_became_of_its_bots(
    run_app: Callable[..., AbstractAsyncContextManager[Api]], world: World, tmp_path: Path
) -> None:
    """One bot is as it was, one was redeployed since, one terminated, one deployed; the first falls ill."""
    kept, moved, lost, later = world.names(4)
    key = pyrage.x25519.Identity.generate()
    async with run_app() as api:
        await api.deployed(kept, moved, lost)
        answer = await backup(api, [str(key.to_public())])
        await api.recover(moved, "redeploy")
        await api.deployed(later)
    new_instance, orphan = await world.instance(moved), await world.instance(later)
    world.ec2.terminate_instances(InstanceIds=[await world.instance(lost)])

    there = tmp_path / "restored.db"
    archive = Archive.read(decrypt(answer, identities=[key]))
    database = await Database.open(f"sqlite:///{there}", prepare=Restore(archive, NOW))
    await database.close()
    effects = len(await world.cloud.effects())
    async with serve(settings_for(there, world.cloud, relapse_after=0.1)) as api:
        registry = {row["bot"]: row for row in (await api.get("/dashboard"))["registry"]}
        assert {name: row["state"] for name, row in registry.items()} == {
            kept: "active",
            moved: "active",
            lost: "quarantined",
        }
        assert registry[moved]["instance_id"] == new_instance
        trail = await api.get("/audit?limit=1000")
        assert orphan in [one["detail"].get("instance") for one in trail if one["event"] == "restored.orphan"]
        assert len(await world.cloud.effects()) == effects  # nothing was done to find that out
        await world.cloud.fault(kept, "die")
        (run_id,) = await api.alert(firing(kept))
        assert (await api.until_ended(f"/recover/{run_id}"))["status"] == "recovered"


async def backup(api: Api, recipients: list[str]) -> bytes:
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.session.post(
        f"{api.url}/backup", json={"recipients": recipients}, headers=headers
    ) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def test_a_backup_asked_of_the_service_is_whole_sealed_and_in_the_trail(app: Api) -> None:
    key = pyrage.x25519.Identity.generate()
    sealed = await backup(app, [str(key.to_public())])
    counts: Mapping[str, int] = Archive.read(decrypt(sealed, identities=[key])).counts
    (entry,) = [one for one in await app.get("/audit") if one["event"] == "backup.taken"]
    assert entry["detail"]["rows"] == dict(counts)
    assert io.BytesIO(sealed).getbuffer().nbytes == entry["detail"]["bytes"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"recipients": []}, "recipients"),
        ({"recipients": ["age1nonsense"]}, "recipients"),
        ({"recipients": ["AGE-SECRET-KEY-1ABC"]}, "recipients"),
        ({"passphrase": "word"}, "recipients"),
    ],
)
async def test_a_backup_that_nobody_could_open_is_refused(app: Api, body: object, field: str) -> None:
    answer = await app.post("/backup", body)
    assert (answer.status, answer.field) == (422, field)
