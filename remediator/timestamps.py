"""Times as the API and the logs show them."""

from datetime import UTC, datetime
from typing import Final

DAY: Final = 86400.0  # seconds


def iso(at: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_iso(at: float | None) -> str | None:
    return None if at is None else iso(at)
