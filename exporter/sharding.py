"""The assignment of bots to several exporters: the same arithmetic as Prometheus's `hashmod`. Pure."""

import re
from collections.abc import Iterable
from hashlib import md5

from exporter.targets import Target


def shard_of(bot: str, total: int) -> int:
    """Return md5's last eight bytes, big-endian, modulo the shards (prometheus: model/relabel/relabel.go)."""
    digest = md5(bot.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "big") % total


def in_shard(targets: Iterable[Target], shard: int, total: int) -> tuple[Target, ...]:
    """Select the targets of a shard, counted from 0."""
    return tuple(target for target in targets if total == 1 or shard_of(target.bot, total) == shard)


def ordinal(pod: str) -> int:
    """Return the ordinal in the name of a StatefulSet's pod, which is its host name: exporter-2 → 2."""
    match = re.search(r"-([0-9]+)$", pod)
    if match is None:
        raise ValueError(f'the host name "{pod}" does not end in an ordinal as a StatefulSet\'s pod does')
    return int(match[1])
