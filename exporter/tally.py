"""Counts of probes by template, as a collector of prometheus-client.

The library's own counters lock at each increment, which at thousands of probes a second is worth saving;
here there is one thread, and a scrape turns plain numbers into families.
"""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter import metrics
from exporter.answer import EndpointResult, ProbeResult, Reason

_BOUNDS = metrics.DURATION_BUCKETS


class _Endpoint:
    __slots__ = ("buckets", "failures", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS) + 1)
        self.seconds = 0.0
        self.failures = dict.fromkeys(Reason, 0)

    def count(self, answer: EndpointResult) -> None:
        self.buckets[bisect_left(_BOUNDS, answer.seconds)] += 1
        self.seconds += answer.seconds
        if answer.reason is not None:
            self.failures[answer.reason] += 1

    def cumulated(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus has them: each with all below it."""
        total, result = 0, []
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self.buckets, strict=True):
            total += count
            result.append((bound, float(total)))
        return result


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
                seconds.add_metric([template, name], endpoint.cumulated(), endpoint.seconds)
                made.add_metric([template, name], sum(endpoint.buckets))
                for reason, count in endpoint.failures.items():
                    failed.add_metric([template, name, reason], count)
        yield from (seconds, made, failed)
