"""The result of a probe. Pure: status and body in, a verdict out.

Named tuples, as a frozen dataclass takes several times as long to make, and a probe makes six.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from exporter.saying import WEB_PAGE, read_body

MAX_BODY = 64 * 1024
MAX_CHANNELS = 32
_LONGEST_CHANNEL = 64
LONGEST_FACT = 64  # characters; the remediator keeps them in columns of this width


class Reason(StrEnum):
    """Why an endpoint failed; the values of the label `reason`."""

    dns = "dns"
    connect_refused = "connect_refused"
    connect_timeout = "connect_timeout"
    tls = "tls"
    read_timeout = "read_timeout"
    http_status = "http_status"
    bad_payload = "bad_payload"
    disconnected = "disconnected"
    not_ok = "not_ok"


# With these there was no connection, so another path at the same address has nothing to add.
UNREACHED = frozenset({Reason.dns, Reason.connect_refused, Reason.connect_timeout, Reason.tls})
TIMED_OUT = {
    Reason.connect_timeout: "no connection in time",
    Reason.read_timeout: "no complete answer in time",
}
"""What a timeout means, by the stage that a request had reached."""


class EndpointResult(NamedTuple):
    """One endpoint's answer; `seconds` runs from connecting to the end of the body, or to the failure."""

    ok: bool
    reason: Reason | None
    status: int | None
    seconds: float
    payload: Mapping[str, object] | None
    detail: str = ""


# The mesh of a bot that has none: nothing was asked, and nothing is wrong.
NOT_ASKED = EndpointResult(True, None, None, 0.0, None, "it has none")

# Why calls of the model fail; the values of the label `kind`. What is told of another kind is `other`.
FAILURE_KINDS = ("rate_limit", "overloaded", "auth", "billing", "model_not_found", "timeout", "other")


class Facts(NamedTuple):
    """The facts a bot reports of itself; None where it reports none, or none that makes sense.

    `failed_by`: counts in the order of `FAILURE_KINDS`. `channels`: name and whether it is up.
    """

    boot_id: str | None = None
    started_at: str | None = None
    version: str | None = None
    config_sha: str | None = None
    context_usage: float | None = None
    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    failed_by: tuple[float, ...] | None = None
    memory_bytes: float | None = None
    turn_age_seconds: float | None = None
    channels: tuple[tuple[str, bool], ...] | None = None

    @property
    def failures(self) -> dict[str, float] | None:
        """Return the counts of calls that failed, of each kind that has any; None where it tells none."""
        if self.failed_by is None:
            return None
        return {kind: count for kind, count in zip(FAILURE_KINDS, self.failed_by, strict=True) if count}

    @classmethod
    def read(cls, payload: Mapping[str, object] | None) -> "Facts":
        if not payload or _TOLD.isdisjoint(payload):
            return _NO_FACTS
        usage = payload.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        context = _count(payload, "context_usage")
        return cls(
            boot_id=_text(payload, "boot_id"),
            started_at=_text(payload, "started_at"),
            version=_text(payload, "version"),
            config_sha=_text(payload, "config_sha"),
            context_usage=context if context is not None and context <= 1 else None,
            requests=_count(counts, "requests"),
            input_tokens=_count(counts, "input_tokens"),
            output_tokens=_count(counts, "output_tokens"),
            failed_by=_failures(counts),
            memory_bytes=_count(payload, "memory_bytes"),
            turn_age_seconds=_count(payload, "turn_age_seconds"),
            channels=_channels(payload.get("channels")),
        )


_NO_FACTS = Facts()
# The fields that facts are read from: OpenClaw's /health has none of them.
_TOLD = frozenset(
    {
        "boot_id", "started_at", "version", "config_sha", "context_usage", "usage", "memory_bytes",
        "turn_age_seconds", "channels",
    }
)  # fmt: skip


class ProbeResult(NamedTuple):
    """One probe of one bot; `at` is unix seconds."""

    bot: str
    at: float
    health: EndpointResult
    mesh: EndpointResult

    @property
    def facts(self) -> Facts:
        """Return the facts of `/health`; what it lacks is of `/mesh`, where OpenClaw has all of them."""
        health = Facts.read(self.health.payload)
        if not self.mesh.payload or None not in health:
            return health
        mesh = Facts.read(self.mesh.payload)
        if mesh is _NO_FACTS:
            return health
        return Facts._make(other if own is None else own for own, other in zip(health, mesh, strict=True))

    @property
    def boot_id(self) -> str | None:
        return self.facts.boot_id

    @property
    def started_at(self) -> str | None:
        return self.facts.started_at

    @property
    def version(self) -> str | None:
        return self.facts.version

    @property
    def config_sha(self) -> str | None:
        return self.facts.config_sha

    @property
    def peers_up_ratio(self) -> float | None:
        """Return the share of the peers that are up; None where the mesh answer lists none."""
        peers = (self.mesh.payload or {}).get("peers")
        if not isinstance(peers, list):
            return None
        states = [peer["up"] for peer in peers if isinstance(peer, dict) and isinstance(peer.get("up"), bool)]
        return sum(states) / len(states) if states else None

    @property
    def event_loop_ratio(self) -> float | None:
        """Return the share of time in which the event loop is busy, as OpenClaw's /ready has it."""
        for endpoint in (self.mesh, self.health):
            event_loop = endpoint.payload.get("eventLoop") if endpoint.payload else None
            if isinstance(event_loop, dict):
                ratio = _count(event_loop, "utilization")
                return ratio if ratio is not None and ratio <= 1 else None
        return None


def judge(status: int, body: bytes, seconds: float, expects_json: bool = False) -> EndpointResult:
    """Judge an answer: a 2xx is good, unless its body says otherwise in a way that `exporter.saying` lists.

    What cannot be read says nothing, unless JSON was promised. A redirect is not followed: an endpoint that
    moved is written into the target list.
    """
    payload, complaint = read_body(body)
    if not 200 <= status < 300:
        return EndpointResult(False, Reason.http_status, status, seconds, payload, f"answered {status}")
    if complaint:
        reason = Reason.bad_payload if complaint == WEB_PAGE else Reason.not_ok
        return EndpointResult(False, reason, status, seconds, payload, complaint)
    if expects_json and payload is None:
        return EndpointResult(False, Reason.bad_payload, status, seconds, None, "answered no JSON object")
    return EndpointResult(True, None, status, seconds, payload)


def _text(payload: Mapping[str, object], field: str) -> str | None:
    """Return a short text or number as text; anything else is no fact."""
    value = payload.get(field)
    if type(value) is str and len(value) <= LONGEST_FACT and value.isascii():
        return value
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # Lone surrogates pass some JSON parsers but cannot be written as UTF-8.
    return str(value).encode("utf-8", "replace").decode()[:LONGEST_FACT]


def _count(payload: Mapping[str, object], field: str) -> float | None:
    """Return a number from 0 on; anything else is no fact."""
    value = payload.get(field)
    if isinstance(value, int | float) and type(value) is not bool and 0 <= value < 1e15:
        return float(value)
    return None


def _failures(usage: Mapping[str, object]) -> tuple[float, ...] | None:
    """Return the counts of failed calls by kind; what `failed` counts beyond those kinds is `other`."""
    if "failed" not in usage and "failed_by" not in usage:
        return None
    by = usage.get("failed_by")
    counts = {kind: _count(by, kind) for kind in by} if isinstance(by, dict) else {}
    failed = _count(usage, "failed")
    if failed is None:
        if not isinstance(by, dict):
            return None
        failed = sum(count or 0.0 for count in counts.values())
    known = [counts.get(kind) or 0.0 for kind in FAILURE_KINDS[:-1]]
    return (*known, max(0.0, failed - sum(known)))


def _channels(listed: object) -> tuple[tuple[str, bool], ...] | None:
    """Return the first channels by name; one that is listed twice is up where both are."""
    if not isinstance(listed, list):
        return None
    states: dict[str, bool] = {}
    for channel in listed[: 2 * MAX_CHANNELS]:
        if not isinstance(channel, dict) or len(states) == MAX_CHANNELS:
            continue
        name, up = channel.get("name"), channel.get("up")
        if isinstance(name, str) and 0 < len(name) <= _LONGEST_CHANNEL and isinstance(up, bool):
            states[name] = states.get(name, True) and up
    return tuple(states.items())
