"""The faults of a bot and of the cloud's API, and their cures. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

FaultKind = Literal["die", "hang", "slow", "error", "mesh", "deaf", "mute", "stuck"]
"""die: the process is killed · hang: it is stopped, the kernel accepts and nobody answers · slow: it answers
late · error: it answers 500 · mesh: only its mesh is lost · deaf: its channel is down · mute: its calls of
the model fail · stuck: one never ends. By its /health a deaf, mute or stuck bot is well."""

CuredBy = Literal["restart", "reboot", "redeploy", "nothing"]
"""The weakest remedy that cures it; `nothing` follows the bot's name to every new instance."""

Start = Literal["restart", "reboot", "redeploy"]
"""The cause of a start of a bot's process: its service was restarted, its machine booted again, or is new."""

ApiFaultKind = Literal["refuse", "delay", "lose_answer"]
"""refuse: an error, and nothing is done · delay: done, after a while · lose_answer: done, and the connection
drops."""

KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
CURES: tuple[CuredBy, ...] = ("restart", "reboot", "redeploy", "nothing")

API_FAULT_KINDS: tuple[ApiFaultKind, ...] = ("refuse", "delay", "lose_answer")

SLOW_SECONDS = 6.0  # more than 5 s takes all the points for latency
MUTE_REASON = "model_not_found"  # one of exporter.result.FAILURE_KINDS


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a bot, until its cure."""

    kind: FaultKind
    cured_by: CuredBy
    seconds: float = SLOW_SECONDS  # how late a slow bot answers
    reason: str = MUTE_REASON  # the kind of failure of a mute bot's calls

    def survives(self, start: Start) -> bool:
        """Return whether the fault is still there after such a start."""
        return CURES.index(start) < CURES.index(self.cured_by)
