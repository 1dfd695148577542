"""Counts of probes by template, and how late they started, as collectors of prometheus-client.

The library's own counters lock at each increment, which at thousands of probes a second is worth saving;
here there is one thread, and a scrape turns plain numbers into families.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter import metrics
from exporter.result import NOT_ASKED, EndpointResult, ProbeResult, Reason


class Histogram:
    """Counts of durations by bucket; bounds and `seconds`, their sum, are in seconds."""

    __slots__ = ("_bounds", "_counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds

    @property
    def total(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus has them: each with all below it."""
        bounds = (*map(str, self._bounds), "+Inf")
        return [(bound, float(count)) for bound, count in zip(bounds, accumulate(self._counts), strict=True)]


class ScheduleLag(Collector):
    """The histogram of how long after its slot each probe started."""

    def __init__(self) -> None:
        self._durations = Histogram(metrics.LAG_BUCKETS)
        self.observe = self._durations.observe

    def collect(self) -> Iterator[Metric]:
        family = metrics.BOT_EXPORTER_SCHEDULE_LAG_SECONDS
        lag = HistogramMetricFamily(family.name, family.help)
        lag.add_metric([], self._durations.cumulative(), self._durations.seconds)
        yield lag


class _EndpointCounts:
    """Counts of one endpoint's results."""

    __slots__ = ("durations", "failures")

    def __init__(self) -> None:
        self.durations = Histogram(metrics.DURATION_BUCKETS)
        self.failures = dict.fromkeys(Reason, 0)

    def count(self, result: EndpointResult) -> None:
        self.durations.observe(result.seconds)
        if result.reason is not None:
            self.failures[result.reason] += 1


class ProbeCounts(Collector):
    """Counts by template: its series exist at 0 from its first bot on, and leave with its last."""

    def __init__(self) -> None:
        self._templates: dict[str, tuple[_EndpointCounts, _EndpointCounts]] = {}

    def set_templates(self, templates: set[str]) -> None:
        """Count exactly these templates: forget the others, start new ones at 0."""
        for template in self._templates.keys() - templates:
            del self._templates[template]
        for template in templates - self._templates.keys():
            self._templates[template] = _EndpointCounts(), _EndpointCounts()

    def count(self, template: str, result: ProbeResult) -> None:
        health, mesh = self._templates[template]
        health.count(result.health)
        if result.mesh is not NOT_ASKED:
            mesh.count(result.mesh)

    def collect(self) -> Iterator[Metric]:
        durations, probes, failures = metrics.PER_TEMPLATE
        seconds = HistogramMetricFamily(durations.name, durations.help, labels=durations.labels)
        made = CounterMetricFamily(probes.name, probes.help, labels=probes.labels)
        failed = CounterMetricFamily(failures.name, failures.help, labels=failures.labels)
        for template, endpoints in self._templates.items():
            for name, endpoint in zip(metrics.ENDPOINTS, endpoints, strict=True):
                histogram = endpoint.durations
                seconds.add_metric([template, name], histogram.cumulative(), histogram.seconds)
                made.add_metric([template, name], histogram.total)
                for reason, count in endpoint.failures.items():
                    failed.add_metric([template, name, reason], count)
        yield from (seconds, made, failed)
