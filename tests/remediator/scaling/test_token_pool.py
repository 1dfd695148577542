"""The tokens that people put aside for the bots that scaling may add."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

from pydantic import SecretStr

from remediator.aws.aws import Aws
from remediator.configuration.rendering import render
from remediator.errors import Refused
from remediator.model import Bot
from remediator.provisioning.deploy import DeploySpec
from remediator.scaling.token_pool import TokenPool
from remediator.store.store import Store
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore
from templates import load

CONFIG, SHA = render("support-1", "staging", load().get("support", "staging"))


@dataclass
class FakeParameters:
    """An AWS that has these tokens, by number, and says which were asked for."""

    tokens: dict[int, str]
    numbers: list[int] = field(default_factory=list)

    async def pooled_token(self, template: str, number: int) -> SecretStr | None:
        assert template == "support"
        self.numbers.append(number)
        token = self.tokens.get(number)
        return None if token is None else SecretStr(token)


async def next_bot(tokens: dict[int, str], *registered: str) -> tuple[DeploySpec | Refused, list[int]]:
    """Return what the pool gives where these bots are registered, and the numbers that AWS was asked for."""
    database = MemoryDatabase(time.time, alone=True)
    store = MemoryStore(database, replica="", lease_seconds=30, clock=time.time, monotonic=time.monotonic)
    async with store.write() as tx:
        for name in registered:
            await tx.add_bot(Bot.registered(name, CONFIG, SHA, overrides={}))
    parameters = FakeParameters(tokens)
    pool = TokenPool(cast(Store, store), cast(Aws, parameters))
    return await pool.next_bot("support", "staging", 2), parameters.numbers


async def test_the_first_token_whose_name_no_bot_has_is_the_next_bots() -> None:
    spec, numbers = await next_bot({1: "42:one", 3: "42:three", 4: "42:four"}, "support-1")
    assert spec == DeploySpec("support-3", "support", "staging", SecretStr("42:three"))
    assert numbers == [2, 3]


async def test_without_a_token_it_says_where_one_is_missing_and_asks_no_further_than_bots_may_be() -> None:
    refused, numbers = await next_bot({})
    assert isinstance(refused, Refused)
    assert (refused.kind, str(refused)) == ("conflict", "no Telegram token is left at /pool/support/1 and on")
    assert numbers == [1, 2, 3, 4, 5, 6]


async def test_a_parameter_that_is_no_token_is_a_refusal_and_holds_no_other_group_up() -> None:
    refused, _ = await next_bot({1: "two words\n"})
    assert isinstance(refused, Refused)
    assert refused.kind == "unavailable"
    assert "printable ASCII" in str(refused)
    assert "two words" not in str(refused)
