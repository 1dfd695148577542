"""Bots fall ill and remediators are killed, frozen and cut off at random; what came of it is counted.

The judge is the sandbox's own log of effects, which no remediator can write to.
"""

import asyncio
import contextlib
import re
import resource
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import aiohttp

from remediator.store.audit import verify_chain
from remediator.store.store import Store
from sandbox.cloud.client import Cloud, CloudError, run_cloud
from sandbox.cloud.faults import CuredBy, FaultKind
from sandbox.process.waiting import wait_until
from tests.chaos.postgres import Postgres, run_postgres
from tests.chaos.replicas import Replica, run_replica
from tests.remediator.conftest import firing, webhook

DatabaseKind = Literal["sqlite", "postgresql"]
LEASE: Final = 2.0
SETTINGS: Final[dict[str, Any]] = {
    "lease": LEASE,
    "restart_timeout": 5,
    "reboot_timeout": 5,
    "redeploy_timeout": 40,
    "actions_burst": 1000,
    "max_attempts": 1000,
}
KINDS: Final[Sequence[FaultKind]] = ("die", "error", "hang")
CURES: Final[Sequence[CuredBy]] = ("restart", "restart", "reboot", "redeploy")
EFFECT_OF: Final = {
    "restart": "restart",
    "reboot": "reboot",
    "launch": "run",
    "retired": "terminate",
    "clean up": "terminate",
}
"""A step of a run → what it does in the cloud, once."""


@dataclass
class Report:
    """`doubled`: effects that no intent accounts for. `lost`: accepted alerts that belong to no run."""

    seed: int
    database: DatabaseKind
    seconds: float
    killed: int = 0
    frozen: int = 0
    cut_off: int = 0  # PostgreSQL stopped at once, or SQLite's disk full
    alerts: int = 0
    refused: int = 0  # sendings of alerts that were not taken, and were sent again
    runs: int = 0
    taken_over: int = 0
    effects: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    unended: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return not (self.unended or self.lost or self.doubled or self.trail)

    def view(self) -> dict[str, Any]:
        return {**asdict(self), "well": self.well}


@dataclass
class Arena:
    """What havoc is made of: the cloud, the replicas and their database."""

    cloud: Cloud
    replicas: list[Replica]
    url: str
    postgres: Postgres | None
    file: Path
    report: Report

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows straight from the database."""
        if self.postgres is not None:
            return await self.postgres.rows(self.url.rpartition("/")[2], query)
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query).fetchall()


async def run_chaos(folder: Path, kind: DatabaseKind, seed: int, seconds: float, *, bots: int = 8) -> Report:
    """Make havoc for so long, then wait until every run has ended, or for two minutes."""
    report = Report(seed, kind, seconds)
    async with run_arena(folder, kind, report) as arena:
        names = [f"bot-{number}" for number in range(bots)]
        await arena.replicas[0].api.deployed(*names)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_make_havoc(arena, Random(f"havoc {seed}"), until))
            tasks.create_task(_make_ill(arena, Random(f"ill {seed}"), names, until))
        await arena.cloud.heal()
        await _until_peace(arena)
        await _judge(arena)
    return report


@asynccontextmanager
async def run_arena(folder: Path, kind: DatabaseKind, report: Report) -> AsyncIterator[Arena]:
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(run_cloud(folder / "cloud", boot_seconds=0.2))
        file = folder / "remediator.db"
        if kind == "sqlite":
            postgres, url, count = None, f"sqlite:///{file}", 1
        else:
            postgres = await stack.enter_async_context(run_postgres())
            url, count = postgres.url(await postgres.new_database()), 2
        settings = {**SETTINGS, "aws_endpoint_url": cloud.endpoint_url}
        replicas = [
            await stack.enter_async_context(run_replica(folder, f"replica-{n}", url, **settings))
            for n in range(count)
        ]
        yield Arena(cloud, replicas, url, postgres, file, report)


# havoc


async def _make_havoc(arena: Arena, random: Random, until: float) -> None:
    while time.monotonic() < until:
        victim = random.choice(arena.replicas)
        act: Callable[[Arena, Replica, Random], Awaitable[None]]
        act = random.choice((_kill, _kill, _freeze, _freeze, _cut_off))
        await asyncio.sleep(random.uniform(0.3, 2))
        await act(arena, victim, random)


async def _kill(arena: Arena, victim: Replica, random: Random) -> None:
    arena.report.killed += 1
    victim.kill9()
    await asyncio.sleep(random.choice((0, 0, 1.5 * LEASE)))
    await victim.start()


async def _freeze(arena: Arena, victim: Replica, random: Random) -> None:
    """Freeze it for less than its lease, or for so long that its runs are another's."""
    arena.report.frozen += 1
    victim.freeze()
    try:
        await asyncio.sleep(random.choice((0.3 * LEASE, 1.6 * LEASE, 2.5 * LEASE)))
    finally:
        victim.thaw()


async def _cut_off(arena: Arena, victim: Replica, random: Random) -> None:
    arena.report.cut_off += 1
    pause = random.uniform(0.2, 2)
    if arena.postgres is not None:
        await arena.postgres.stop_at_once()
        await asyncio.sleep(pause)
        await arena.postgres.start()
        return
    pid = victim.process.pid
    if pid is None:
        return
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    wal = arena.file.with_name(arena.file.name + "-wal")  # every write ends here first
    size = wal.stat().st_size if wal.exists() else 0
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        await asyncio.sleep(pause)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


async def _make_ill(arena: Arena, random: Random, bots: Sequence[str], until: float) -> None:
    """Break one bot after another. Send its alert until it is taken, as Alertmanager does, and once more."""
    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() < until:
            bot = random.choice(bots)
            with contextlib.suppress(CloudError):  # its instance is being replaced
                await arena.cloud.fault(bot, random.choice(KINDS), cured_by=random.choice(CURES))
            tasks.create_task(_clear(arena, bot))
            tasks.create_task(_alert(arena, bot, random.sample(arena.replicas, len(arena.replicas))))
            await asyncio.sleep(random.uniform(0.2, 1.5))


async def _clear(arena: Arena, bot: str) -> None:
    """Clear the bot's quarantine, as a person does; on a busy computer some bots come into it."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        patience = aiohttp.ClientTimeout(total=3)
        await arena.replicas[0].api.call("DELETE", f"/bots/{bot}/quarantine", timeout=patience)


async def _alert(arena: Arena, bot: str, replicas: Sequence[Replica]) -> None:
    arena.report.alerts += 1
    alert = webhook(firing(bot, starts_at=datetime.now(UTC).isoformat()))
    taken, tries = 0, 0
    while taken < 2:
        api = replicas[tries % len(replicas)].api
        tries += 1
        try:
            answer = await api.call("POST", "/alerts", alert, timeout=aiohttp.ClientTimeout(total=3))
            taken += answer.status == 200
            arena.report.refused += answer.status != 200
        except (aiohttp.ClientError, TimeoutError):
            arena.report.refused += 1
        await asyncio.sleep(0.2)


# peace


async def _until_peace(arena: Arena) -> None:
    async def ended() -> bool:
        return not await arena.rows("select id from runs where finished_at is null")

    with contextlib.suppress(TimeoutError):
        await wait_until(ended, 120, "every run ended", every=0.5)


async def _judge(arena: Arena) -> None:
    report = arena.report
    unended = await arena.rows("select id, bot, status, reason from runs where finished_at is null")
    report.unended = [" ".join(row) for row in unended]
    # An episode that a later one of its fingerprint overtook is resolved: what the later one says counts.
    unheard = "run_id is null and status = 'firing' and ignored <> 'quarantined'"
    lost = f"select bot, ignored from alerts where {unheard}"
    report.lost = [" ".join(row) for row in await arena.rows(lost)]
    rows = await arena.rows("select status, fence from runs where kind = 'recover'")
    report.runs, report.taken_over = len(rows), sum(fence > 1 for _, fence in rows)
    report.outcomes = dict(Counter(status for status, _ in rows))
    effects = await arena.cloud.effects()
    report.effects = len(effects)
    steps = await arena.rows("select bot, steps.name from steps join runs on runs.id = run_id")
    report.doubled = doubled(
        [(effect.bot, effect.action) for effect in effects], [(bot, name) for bot, name in steps]
    )
    store = await Store.open(arena.url, serving=False)
    async with store.read() as tx:
        trail = await tx.audit_trail(bot=None, after=0, limit=10**9)
        report.trail = verify_chain(trail, await tx.fact("audit_head") or "")
    await store.close()


def doubled(effects: Sequence[tuple[str, str]], steps: Sequence[tuple[str, str]]) -> list[str]:
    """Return the effects beyond the intents that account for them; both as (bot, name)."""
    named = [(bot, re.sub(r"-\d+$", "", name)) for bot, name in steps]  # launch-2, in another zone
    meant = Counter((bot, EFFECT_OF[name]) for bot, name in named if name in EFFECT_OF)
    return [
        f"{bot}: {action} {count} times, meant {meant[bot, action]}"
        for (bot, action), count in sorted(Counter(effects).items())
        if action in EFFECT_OF.values() and count > meant[bot, action]
    ]
