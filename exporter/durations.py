"""Durations as Prometheus writes them: 250ms, 60s, 1m30s, and 0 for none. The one parser of all packages."""

import re
from typing import Final

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_PART = r"[0-9]+(?:\.[0-9]+)?(?:ms|[smhdwy])"
DURATION: Final = rf"(?:{_PART})+"
"""A regular expression without groups of its own, to find durations in a text."""


def parse_duration(text: str) -> float:
    """Return the seconds of a duration; ValueError says what is wrong and how to write it."""
    if text == "0":
        return 0.0
    if not re.fullmatch(DURATION, text):
        raise ValueError(f'"{text}" is no duration: write it as 250ms, 60s or 1m30s')
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|[smhdwy])", text))


def format_duration(seconds: float) -> str:
    """Write seconds, to the millisecond, in the largest exact unit up to days: 60 → 1m, 0.25 → 250ms."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        whole, rest = divmod(milliseconds, round(_UNITS[unit] * 1000))
        if not rest and (whole or unit == "s"):
            return f"{whole}{unit}"
    return f"{milliseconds}ms"
