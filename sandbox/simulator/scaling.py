"""Lives of a group that scales, on a virtual clock: what must never happen, checked at every minute.

The decision is production's own; around it are work that comes and goes, bots that fall ill, storms, and
deployments that take their time or fail. `python -m sandbox.simulator.scaling --seeds 1000`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from remediator.scaling import Group, Move, Past, Policy, decide, moved

MINUTE: Final = 60.0
DAY: Final = 24 * 60  # minutes
SETTLED: Final = 12 * 60  # minutes at the end of a life in which nothing changes any more


@dataclass
class Life:
    """What became of one seed."""

    seed: int
    policy: Policy
    moves: list[tuple[float, Move]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    storm_minutes: int = 0


@dataclass
class _World:
    random: Random
    policy: Policy
    declared: int
    added: int = 0
    ill: int = 0
    work: float = 0.0  # bots' worth
    storm: bool = False
    under_way: tuple[float, str, bool] | None = None  # until when, which way, whether it succeeds

    @property
    def bots(self) -> int:
        return self.declared + self.added

    def change(self) -> None:
        """A minute's weather."""
        random = self.random
        if random.random() < 0.01:
            self.work = random.choice((0.2, 0.5, 1.0, 1.5)) * random.uniform(0, self.policy.max)
        if random.random() < 0.01:
            self.ill = random.randint(0, self.bots)
        if random.random() < 0.004:
            self.ill = 0
        if random.random() < (0.05 if self.storm else 0.003):
            self.storm = not self.storm

    def group(self) -> Group:
        healthy = max(0, self.bots - self.ill)
        load = min(1.0, self.work / healthy) if healthy else 1.0
        return Group(self.bots, healthy, self.added, load, self.storm, self.under_way is not None)

    def finish(self, now: float) -> None:
        if self.under_way is not None and now >= self.under_way[0]:
            _, direction, succeeds = self.under_way
            self.under_way = None
            if succeeds:
                self.added += 1 if direction == "out" else -1
                self.ill = min(self.ill, self.bots)

    def begin(self, move: Move, now: float) -> None:
        until = now + self.random.uniform(1, 12) * MINUTE
        self.under_way = (until, move.direction, self.random.random() > 0.1)


def live(seed: int, minutes: int = DAY) -> Life:
    """A day of weather, then one of none: then the group has to come to rest."""
    random = Random(seed)  # noqa: S311 -- a simulation is repeated by its seed
    low = random.randint(1, 4)
    policy = Policy(
        min=low,
        max=low + random.randint(0, 6),
        target=random.uniform(0.2, 0.9),
        patience=random.choice((60.0, 300.0)),
        calm=random.choice((900.0, 1800.0)),
    )
    world = _World(random, policy, declared=random.randint(low, policy.max))
    life, past = Life(seed, policy), Past()
    for minute in range(minutes + SETTLED):
        now = minute * MINUTE
        world.finish(now)
        if minute < minutes:
            world.change()
        else:
            world.storm = False
        group = world.group()
        life.storm_minutes += group.storm
        past, move = decide(policy, group, past, now)
        if move.direction:
            life.faults += wrong(life, group, move, now)
            life.moves.append((now, move))
            past = moved(past, move.direction, now)
            world.begin(move, now)
    life.faults += restless(life, minutes * MINUTE)
    return life


def wrong(life: Life, group: Group, move: Move, now: float) -> Iterator[str]:
    """What no move may ever be."""
    after = group.bots + (1 if move.direction == "out" else -1)
    policy = life.policy
    if not policy.min <= after <= policy.max and not (move.direction == "in" and after >= policy.max):
        yield f"{now:.0f}: {move.direction} to {after} of {policy.min} to {policy.max}"
    if group.storm:
        yield f"{now:.0f}: {move.direction} in a storm"
    if group.busy:
        yield f"{now:.0f}: {move.direction} while another is under way"
    if move.direction == "in" and not group.added:
        yield f"{now:.0f}: a bot that people declared is taken away"
    if life.moves:
        at, before = life.moves[-1]
        if before.direction != move.direction and now - at < policy.calm:
            yield f"{now:.0f}: {move.direction} {now - at:.0f} s after {before.direction}"


def restless(life: Life, still_from: float) -> Iterator[str]:
    """While nothing changes it moves one way only, and then no more."""
    late = [move.direction for at, move in life.moves if at > still_from + life.policy.calm + 900]
    if len(set(late)) > 1:
        yield f"it oscillates: {late}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.simulator.scaling", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="lives (default: %(default)s)")
    lives = [live(seed) for seed in range(parser.parse_args().seeds)]
    faults = [f"seed {life.seed}: {fault}" for life in lives for fault in life.faults]
    for fault in faults[:20]:
        print(fault)
    print(
        json.dumps(
            {
                "lives": len(lives),
                "moves_out": sum(move.direction == "out" for life in lives for _, move in life.moves),
                "moves_in": sum(move.direction == "in" for life in lives for _, move in life.moves),
                "storm_minutes": sum(life.storm_minutes for life in lives),
                "faults": len(faults),
            }
        )
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
