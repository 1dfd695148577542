"""The exporter's own series and those of each template, over prometheus-client."""

import platform
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from exporter import metrics
from exporter.answer import EndpointResult, ProbeResult, Reason
from exporter.metrics import Family
from exporter.settings import Settings


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """The series of one template's endpoint, looked up once."""

    probes: Counter
    durations: Histogram
    failures: dict[Reason, Counter]

    def count(self, answer: EndpointResult) -> None:
        self.probes.inc()
        self.durations.observe(answer.seconds)
        if answer.reason is not None:
            self.failures[answer.reason].inc()


class Meters:
    """One registry; a template's series exist at 0 from its first bot on and leave with its last."""

    def __init__(self, settings: Settings, version: str) -> None:
        # The library's switch is global; `_created` would double the counters' series for nothing.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.targets = self._gauge(metrics.BOT_EXPORTER_TARGETS)
        self.invalid = self._gauge(metrics.BOT_EXPORTER_TARGETS_INVALID)
        self.in_flight = self._gauge(metrics.BOT_EXPORTER_PROBES_IN_FLIGHT)
        self.skipped = self._counter(metrics.BOT_EXPORTER_PROBES_SKIPPED_TOTAL)
        self.lag = self._histogram(metrics.BOT_EXPORTER_SCHEDULE_LAG_SECONDS, metrics.LAG_BUCKETS)
        self.reload_ok = self._gauge(metrics.BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL)
        self.reload_time = self._gauge(metrics.BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS)
        self._durations = self._histogram(metrics.BOT_FLEET_PROBE_DURATION_SECONDS, metrics.DURATION_BUCKETS)
        self._probes = self._counter(metrics.BOT_FLEET_PROBES_TOTAL)
        self._failures = self._counter(metrics.BOT_FLEET_PROBE_FAILURES_TOTAL)
        self._endpoints: dict[str, tuple[_Endpoint, _Endpoint]] = {}
        self._publish(settings, version)
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)

    def templates(self, present: set[str]) -> None:
        """Make the series of these templates exist, and drop all others."""
        for template in present - self._endpoints.keys():
            self._endpoints[template] = (self._of(template, "health"), self._of(template, "mesh"))
        for template in self._endpoints.keys() - present:
            del self._endpoints[template]
            for endpoint in metrics.ENDPOINTS:
                self._durations.remove(template, endpoint)
                self._probes.remove(template, endpoint)
                for reason in Reason:
                    self._failures.remove(template, endpoint, reason)

    def count(self, template: str, result: ProbeResult) -> None:
        health, mesh = self._endpoints[template]
        health.count(result.health)
        mesh.count(result.mesh)

    def render(self, open_metrics: bool = False) -> bytes:
        """The text; in OpenMetrics it ends with EOF, so it comes last."""
        return (openmetrics.generate_latest if open_metrics else generate_latest)(self.registry)

    def _of(self, template: str, endpoint: str) -> "_Endpoint":
        return _Endpoint(
            self._probes.labels(template, endpoint),
            self._durations.labels(template, endpoint),
            {reason: self._failures.labels(template, endpoint, reason) for reason in Reason},
        )

    def _publish(self, settings: Settings, version: str) -> None:
        thresholds = settings.thresholds
        level = self._gauge(metrics.BOT_HEALTH_SCORE_THRESHOLD)
        level.labels("low").set(thresholds.low)
        level.labels("critical").set(thresholds.critical)
        self._gauge(metrics.BOT_PROBE_FAILURE_STREAK_THRESHOLD).set(thresholds.streak)
        self._gauge(metrics.BOT_PROBE_INTERVAL_SECONDS).set(settings.interval)
        self._gauge(metrics.BOT_PROBE_TIMEOUT_SECONDS).set(settings.timeout)
        self._gauge(metrics.BOT_EXPORTER_BUILD_INFO).labels(version, platform.python_version()).set(1)

    def _gauge(self, family: Family) -> Gauge:
        return Gauge(family.name, family.help, family.labels, registry=self.registry)

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.labels, registry=self.registry)

    def _histogram(self, family: Family, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(family.name, family.help, family.labels, buckets=buckets, registry=self.registry)
