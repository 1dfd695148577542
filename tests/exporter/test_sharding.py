"""Sharding: each bot on exactly one exporter, and on the one Prometheus's hashmod would choose."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sharding import in_shard, ordinal, shard_of
from exporter.targets import Target
from sandbox.process import binaries

names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)


@given(st.sets(names, max_size=50), st.integers(1, 20))
def test_each_bot_is_on_exactly_one_shard(bots: set[str], total: int) -> None:
    targets = [Target(bot, "127.0.0.1:1") for bot in bots]
    shards = [{target.bot for target in in_shard(targets, shard, total)} for shard in range(total)]
    assert sum(map(len, shards)) == len(bots)
    assert set().union(*shards) == bots


def test_the_hash_is_prometheus_hashmod() -> None:
    """The low half of md5, as a number: `printf forge | md5sum | cut -c17-32`."""
    assert shard_of("forge", 2**64) == 0xB1266B70FA7824EB


@pytest.mark.parametrize("total", [2, 3, 16])
def test_prometheus_itself_puts_each_bot_on_the_same_shard(tmp_path: Path, total: int) -> None:
    """Its relabelling does, by `promtool check service-discovery`."""
    bots = [f"bot-{n}" for n in range(50)]
    groups = [{"targets": ["127.0.0.1:1"], "labels": {"bot": bot}} for bot in bots]
    relabel = {"source_labels": ["bot"], "modulus": total, "action": "hashmod", "target_label": "shard"}
    job = {"job_name": "bots", "static_configs": groups, "relabel_configs": [relabel]}
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({"scrape_configs": [job]}))
    promtool = binaries.find("promtool")
    done = subprocess.run(
        [promtool, "check", "service-discovery", "--timeout=1s", config, "bots"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    relabelled = [target["labels"] for target in json.loads(done.stdout)]
    shards = {labels["bot"]: int(labels["shard"]) for labels in relabelled}
    assert shards == {bot: shard_of(bot, total) for bot in bots}


def test_the_ordinal_is_that_of_a_statefulsets_pod() -> None:
    assert ordinal("bot-exporter-12") == 12
    with pytest.raises(ValueError, match="StatefulSet"):
        ordinal("localhost")
