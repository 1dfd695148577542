"""The step "token" of a run: done by the request that brings the secret, settled by what drives the run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import cast

import pytest
from pydantic import SecretStr

from remediator.aws.aws import Aws
from remediator.engine.engine import Engine
from remediator.engine.journal import Done, Failed, Journal
from remediator.model import Run
from remediator.provisioning.deploy import start, store_token
from remediator.store.lease import Lease
from remediator.store.store import Store
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore

TOKEN = SecretStr("42:planted")


class ProcessDiedError(Exception):
    """The end of a process, as far as a test can have one."""


@dataclass
class FakeParameters:
    """An AWS that keeps tokens; `dies`: the process does, before the token has reached it or after."""

    dies: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    async def put_token(self, bot: str, token: str) -> None:
        if self.dies == "before":
            raise ProcessDiedError
        self.tokens[bot] = token
        if self.dies == "after":
            raise ProcessDiedError

    async def has_token(self, bot: str, since: float) -> bool:
        assert since == 5.0  # when the run began: an older token is another bot's of this name
        return bot in self.tokens


@dataclass
class FakeEngine:
    """Notes the runs that are to be driven."""

    driven: list[str] = field(default_factory=list)

    def drive(self, run: Run) -> None:
        self.driven.append(run.id)


@pytest.fixture
async def journal() -> Journal:
    """Return the journal of a deployment that has begun."""
    database = MemoryDatabase(time.time, alone=True)
    store = MemoryStore(database, replica="", lease_seconds=30, clock=time.time, monotonic=time.monotonic)
    async with store.write() as tx:
        run = await tx.add_run(Run.begin("deploy", bot="forge", reason="under way", at=5.0))
    return Journal(cast(Store, store), run, Lease(run.id, run.fence, math.inf))


async def request(journal: Journal, parameters: FakeParameters, engine: FakeEngine) -> object:
    """Do what the request does once the run is on disk; return what became of the token."""
    run, store = journal.run, journal.store
    aws = cast(Aws, parameters)
    return await start(run, TOKEN, store=store, aws=aws, engine=cast(Engine, engine))


async def test_the_request_stores_the_token_and_has_the_run_driven_which_finds_the_step_done(
    journal: Journal,
) -> None:
    parameters, engine = FakeParameters(), FakeEngine()
    assert isinstance(await request(journal, parameters, engine), Done)
    assert engine.driven == [journal.run.id]
    parameters.tokens.clear()  # what drives the run asks nobody
    assert isinstance(await store_token(journal, cast(Aws, parameters)), Done)


@pytest.mark.parametrize(("dies", "outcome"), [("before", Failed), ("after", Done)])
async def test_after_a_crash_in_the_middle_ssm_says_whether_the_token_is_there(
    journal: Journal, dies: str, outcome: type
) -> None:
    parameters, engine = FakeParameters(dies), FakeEngine()
    with pytest.raises(ProcessDiedError):
        await request(journal, parameters, engine)
    settled = await store_token(journal, cast(Aws, parameters))
    assert isinstance(settled, outcome), settled


async def test_after_a_crash_before_the_step_the_token_is_missing_and_the_run_says_so(
    journal: Journal,
) -> None:
    outcome = await store_token(journal, cast(Aws, FakeParameters()))
    assert isinstance(outcome, Failed)
    assert "send the request again" in outcome.reason


async def test_the_token_is_in_no_step(journal: Journal) -> None:
    await request(journal, FakeParameters(), FakeEngine())
    assert "planted" not in repr(await journal.steps())
