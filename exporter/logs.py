"""One line an event on stderr, as logfmt or JSON."""

import logging
import sys

import structlog


def configure(level: str, fmt: str) -> None:
    """Write structlog's events of this level and above to stderr; `fmt` is logfmt or json."""
    json = structlog.processors.JSONRenderer()
    logfmt = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            json if fmt == "json" else logfmt,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
