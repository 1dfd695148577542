"""What can be wrong with a bot or with the cloud's API, and what cures it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal["die", "hang", "slow", "error", "mesh"]
"""die: the process is killed · hang: it is stopped, the kernel accepts and nobody answers · slow: it answers
late · error: it answers 500 · mesh: only its mesh is lost."""

CuredBy = Literal["restart", "reboot", "redeploy", "nothing"]
"""The weakest remedy that cures it; `nothing` follows the bot's name to every new instance."""

Start = Literal["restart", "reboot", "redeploy"]
"""Why a bot's process starts: the service was restarted, its machine booted again, the machine is new."""

How = Literal["refuse", "delay", "lose_answer"]
"""refuse: an error, and nothing is done · delay: done, after a while · lose_answer: done, and the connection
drops."""

KINDS: tuple[FaultKind, ...] = ("die", "hang", "slow", "error", "mesh")
CURES: tuple[CuredBy, ...] = ("restart", "reboot", "redeploy", "nothing")

HOWS: tuple[How, ...] = ("refuse", "delay", "lose_answer")

SLOW_SECONDS = 6.0  # more than 5 s takes all the points for latency


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    cured_by: CuredBy
    seconds: float = SLOW_SECONDS  # how late a slow bot answers

    def survives(self, start: Start) -> bool:
        return CURES.index(start) < CURES.index(self.cured_by)
