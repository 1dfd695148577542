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
from exporter.answer import EndpointResult, ProbeResult, Reason


class Durations:
    """How many took how long."""

    __slots__ = ("_bounds", "_counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds

    @property
    def total(self) -> int:
        return sum(self._counts)

    def cumulated(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus has them: each with all below it."""
        bounds = (*map(str, self._bounds), "+Inf")
        return [(bound, float(count)) for bound, count in zip(bounds, accumulate(self._counts), strict=True)]


class Lag(Collector):
    """How long after its slot each probe started."""

    def __init__(self) -> None:
        self._durations = Durations(metrics.LAG_BUCKETS)
        self.add = self._durations.add

    def collect(self) -> Iterator[Metric]:
        family = metrics.BOT_EXPORTER_SCHEDULE_LAG_SECONDS
        lag = HistogramMetricFamily(family.name, family.help)
        lag.add_metric([], self._durations.cumulated(), self._durations.seconds)
        yield lag


class _Endpoint:
    __slots__ = ("durations", "failures")

    def __init__(self) -> None:
        self.durations = Durations(metrics.DURATION_BUCKETS)
        self.failures = dict.fromkeys(Reason, 0)

    def count(self, answer: EndpointResult) -> None:
        self.durations.add(answer.seconds)
        if answer.reason is not None:
            self.failures[answer.reason] += 1


class Tally(Collector):
    """A template's series exist at 0 from its first bot on, and leave with its last."""

    def __init__(self) -> None:
        self._templates: dict[str, tuple[_Endpoint, _Endpoint]] = {}

    def keep(self, templates: set[str]) -> None:
        """Have exactly these templates."""
        for template in self._templates.keys() - templates:
            del self._templates[template]
        for template in templates - self._templates.keys():
            self._templates[template] = _Endpoint(), _Endpoint()

    def count(self, template: str, result: ProbeResult) -> None:
        health, mesh = self._templates[template]
        health.count(result.health)
        mesh.count(result.mesh)

    def collect(self) -> Iterator[Metric]:
        durations, probes, failures = metrics.PER_TEMPLATE
        seconds = HistogramMetricFamily(durations.name, durations.help, labels=durations.labels)
        made = CounterMetricFamily(probes.name, probes.help, labels=probes.labels)
        failed = CounterMetricFamily(failures.name, failures.help, labels=failures.labels)
        for template, endpoints in self._templates.items():
            for name, endpoint in zip(metrics.ENDPOINTS, endpoints, strict=True):
                durations_of = endpoint.durations
                seconds.add_metric([template, name], durations_of.cumulated(), durations_of.seconds)
                made.add_metric([template, name], durations_of.total)
                for reason, count in endpoint.failures.items():
                    failed.add_metric([template, name, reason], count)
        yield from (seconds, made, failed)
