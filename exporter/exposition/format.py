"""The exposition formats: the header of a family, and the format that a scraper accepts."""

from exporter.metrics import Family

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def header(family: Family, open_metrics: bool = False) -> str:
    """Return HELP and TYPE. OpenMetrics names a counter without `_total`; samples are the same in both."""
    name = family.name.removesuffix("_total") if open_metrics else family.name
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n"


def wants_open_metrics(accept: str) -> bool:
    """Return whether OpenMetrics ranks first in an Accept header; without one it is the text format."""
    best, best_quality = "", 0.0
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if media in ("application/openmetrics-text", "text/plain") and quality > best_quality:
            best, best_quality = media, quality
    return best == "application/openmetrics-text"


def wants_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip."""
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = part.partition(";")
        if coding.strip() == "gzip":
            return parameter.replace(" ", "") not in ("q=0", "q=0.0")
    return False
