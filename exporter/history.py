"""The last probes of a bot, packed: 17 bytes each, failures kept longer than successes. Pure."""

import struct
from dataclasses import dataclass

from exporter.result import ProbeResult, Reason

_ENTRY = struct.Struct("<dffB")  # when, seconds of /health and /mesh, their reasons in half a byte each
_SIZE = _ENTRY.size
_SUCCESSES, _FAILURES = 4, 10
_REASONS = (None, *Reason)
_CODES = {reason: code for code, reason in enumerate(_REASONS)}


@dataclass(frozen=True, slots=True)
class PastProbe:
    """A probe in the history; `at` is unix seconds, the others are seconds, None is a success."""

    at: float
    health_seconds: float
    mesh_seconds: float
    health: Reason | None
    mesh: Reason | None


def append_probe(history: bytes, result: ProbeResult) -> bytes:
    """Return the history with this probe at its end, less the oldest of its kind where there are too many."""
    health, mesh = result.health, result.mesh
    reasons = _CODES[health.reason] << 4 | _CODES[mesh.reason]  # 0 is a success
    history += _ENTRY.pack(result.at, health.seconds, mesh.seconds, reasons)
    kinds = history[_SIZE - 1 :: _SIZE]
    successes = kinds.count(0)
    if reasons == 0 and successes > _SUCCESSES:
        oldest = kinds.index(0)
    elif reasons != 0 and len(kinds) - successes > _FAILURES:
        oldest = len(kinds) - len(kinds.lstrip(b"\0"))
    else:
        return history
    return history[: oldest * _SIZE] + history[(oldest + 1) * _SIZE :]


def past_probes(history: bytes) -> list[PastProbe]:
    """Unpack the history, oldest first."""
    return [
        PastProbe(at, health_seconds, mesh_seconds, _REASONS[reasons >> 4], _REASONS[reasons & 15])
        for at, health_seconds, mesh_seconds, reasons in _ENTRY.iter_unpack(history)
    ]
