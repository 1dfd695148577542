"""File descriptors: a probe needs one, so they bound how large a fleet one exporter can watch."""

import resource
from collections.abc import Collection

from exporter.durations import format_duration
from exporter.settings import Settings
from exporter.targets import Target

RESERVED = 128  # for scrapes, files, discovery and the process itself
_PLENTY = 1_000_000


def raise_limit() -> int:
    """Raise the soft limit to the hard one, as any user may, and return how many descriptors are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _PLENTY if hard == resource.RLIM_INFINITY else min(hard, _PLENTY)


def shortage(targets: Collection[Target], limit: int, settings: Settings) -> str:
    """Explain how the fleet could outgrow the limit, if every bot hung at once; empty if it cannot. Pure."""
    longest = 2 * settings.timeout  # each endpoint has its time
    busy = sum(min(1.0, longest / settings.interval_of(target)) for target in targets)
    needed = RESERVED + (len(targets) if settings.keep_alive else int(busy))
    if needed <= limit:
        return ""
    return (
        f"{len(targets)} bots, each up to {format_duration(longest)} of every interval "
        f"(by default {format_duration(settings.interval)}), can need {needed} file descriptors, "
        f"and {limit} are allowed: "
        f"set LimitNOFILE={needed} in the unit, or shorten --probe.timeout"
    )
