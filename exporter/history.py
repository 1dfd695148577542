"""The last probes of a bot, packed: 18 bytes each, failures kept longer than successes. Pure."""

import struct
from dataclasses import dataclass

from exporter.answer import ProbeResult, Reason

_ENTRY = struct.Struct("<dffBB")  # when, seconds of /health and /mesh, their reasons: 0 is well
_SUCCESSES, _FAILURES = 4, 10
_REASONS = (None, *Reason)
_CODES = {reason: code for code, reason in enumerate(_REASONS)}


@dataclass(frozen=True, slots=True)
class Past:
    """A probe that was; times in seconds."""

    at: float
    health_seconds: float
    mesh_seconds: float
    health: Reason | None
    mesh: Reason | None


def remember(history: bytes, result: ProbeResult) -> bytes:
    """The history with this probe at its end, and the oldest of its kind gone where there are too many."""
    health, mesh = result.health, result.mesh
    codes = _CODES[health.reason], _CODES[mesh.reason]
    history += _ENTRY.pack(result.at, health.seconds, mesh.seconds, *codes)
    failed = codes != (0, 0)
    size = _ENTRY.size
    alike = [
        start
        for start in range(0, len(history), size)
        if (history[start + size - 2 : start + size] != b"\0\0") == failed
    ]
    if len(alike) <= (_FAILURES if failed else _SUCCESSES):
        return history
    return history[: alike[0]] + history[alike[0] + size :]


def recall(history: bytes) -> list[Past]:
    """Oldest first."""
    return [
        Past(at, health_seconds, mesh_seconds, _REASONS[health], _REASONS[mesh])
        for at, health_seconds, mesh_seconds, health, mesh in _ENTRY.iter_unpack(history)
    ]
