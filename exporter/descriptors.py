"""File descriptors: a probe needs one, so they bound how large a fleet one exporter can watch."""

import resource

from exporter.durations import format_duration
from exporter.settings import Settings

RESERVED = 128  # for scrapes, files, discovery and the process itself
_PLENTY = 1_000_000


def raise_limit() -> int:
    """Descriptors allowed, after raising the soft limit to the hard one as any user may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _PLENTY if hard == resource.RLIM_INFINITY else min(hard, _PLENTY)


def shortage(bots: int, limit: int, settings: Settings) -> str:
    """Why the fleet could outgrow the limit, if every bot hung at once; empty if it cannot. Pure."""
    busy = 1.0 if settings.keep_alive else min(1.0, 2 * settings.timeout / settings.interval)
    needed = RESERVED + int(bots * busy)
    if needed <= limit:
        return ""
    return (
        f"{bots} bots, each up to {format_duration(2 * settings.timeout)} of every "
        f"{format_duration(settings.interval)}, can need {needed} file descriptors, and {limit} are allowed: "
        f"set LimitNOFILE={needed} in the unit, or shorten --probe.timeout"
    )
