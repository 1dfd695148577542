"""One line an event, to standard error."""

import logging
import sys
from dataclasses import dataclass, field
from typing import Final

import structlog

MOST: Final = 20  # lines of one kind
SECONDS: Final = 60.0

log = structlog.get_logger()


@dataclass
class Sparing:
    """What a thousand bots say at once is said of a few each minute, and the others are counted."""

    _since: dict[str, float] = field(default_factory=dict)
    _lines: dict[str, int] = field(default_factory=dict)

    def allow(self, kind: str, now: float) -> bool:
        """Whether this line of that kind may be written."""
        if now - self._since.get(kind, float("-inf")) >= SECONDS:
            unsaid = self._lines.get(kind, 0) - MOST
            if unsaid > 0:
                log.warning("lines left out", kind=kind, count=unsaid)
            self._since[kind], self._lines[kind] = now, 0
        self._lines[kind] += 1
        return self._lines[kind] <= MOST


def configure(level: str, style: str) -> None:
    """`level`: debug, info, warning, error. `style`: logfmt or json."""
    renderer: structlog.types.Processor
    if style == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, format="level=%(levelname)s logger=%(name)s event=%(message)r")
