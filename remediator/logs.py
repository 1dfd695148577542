"""One line an event, to standard error."""

import logging
import sys
from dataclasses import dataclass, field
from typing import Final

import structlog

LINES_PER_WINDOW: Final = 20  # of one kind
WINDOW: Final = 60.0  # seconds

log = structlog.get_logger()


@dataclass
class LogLimiter:
    """Lets a few lines of a kind through each minute and counts the rest: a thousand bots may fail as one."""

    _since: dict[str, float] = field(default_factory=dict)
    _lines: dict[str, int] = field(default_factory=dict)

    def allow(self, kind: str, now: float) -> bool:
        """Return whether this line of that kind may be written. `now`: Unix seconds."""
        if now - self._since.get(kind, float("-inf")) >= WINDOW:
            omitted = self._lines.get(kind, 0) - LINES_PER_WINDOW
            if omitted > 0:
                log.warning("lines left out", kind=kind, count=omitted)
            self._since[kind], self._lines[kind] = now, 0
        self._lines[kind] += 1
        return self._lines[kind] <= LINES_PER_WINDOW


def configure(level: str, style: str) -> None:
    """Set up the log. `level`: debug, info, warning, error. `style`: logfmt or json."""
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
