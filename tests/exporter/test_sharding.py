"""Sharding: each bot on exactly one exporter, and on the one Prometheus's hashmod would choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sharding import mine, ordinal, shard_of
from exporter.targets import Target

names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)


@given(st.sets(names, max_size=50), st.integers(1, 20))
def test_each_bot_is_on_exactly_one_shard(bots: set[str], total: int) -> None:
    targets = [Target(bot, "127.0.0.1:1") for bot in bots]
    shards = [{target.bot for target in mine(targets, shard, total)} for shard in range(total)]
    assert sum(map(len, shards)) == len(bots)
    assert set().union(*shards) == bots


def test_the_hash_is_prometheus_hashmod() -> None:
    """The low half of md5, as a number: `printf forge | md5sum | cut -c17-32`."""
    assert shard_of("forge", 2**64) == 0xB1266B70FA7824EB


def test_the_ordinal_is_that_of_a_statefulsets_pod() -> None:
    assert ordinal("bot-exporter-12") == 12
    with pytest.raises(ValueError, match="StatefulSet"):
        ordinal("localhost")
