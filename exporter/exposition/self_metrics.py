"""The exporter's own series over prometheus-client."""

import platform

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from exporter import metrics
from exporter.exposition.probe_counts import ProbeCounts, ScheduleLag
from exporter.metrics import Family
from exporter.settings import Settings


class SelfMetrics:
    """The exporter's registry, with the counts of probes by template in it."""

    def __init__(self, settings: Settings, version: str) -> None:
        # The library's switch is global; `_created` would double the counters' series for nothing.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.targets = self._gauge(metrics.BOT_EXPORTER_TARGETS)
        self.invalid = self._gauge(metrics.BOT_EXPORTER_TARGETS_INVALID)
        self.in_flight = self._gauge(metrics.BOT_EXPORTER_PROBES_IN_FLIGHT)
        self.skipped = self._counter(metrics.BOT_EXPORTER_PROBES_SKIPPED_TOTAL)
        self.reload_ok = self._gauge(metrics.BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL)
        self.reload_time = self._gauge(metrics.BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS)
        self.interval = self._gauge(metrics.BOT_PROBE_INTERVAL_SECONDS)
        self.probe_counts, self.lag = ProbeCounts(), ScheduleLag()
        self.registry.register(self.probe_counts)
        self.registry.register(self.lag)
        self._publish(settings, version)
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)

    def render(self, open_metrics: bool = False) -> bytes:
        """Return the exposition; in OpenMetrics it ends with EOF, so it comes last in a scrape."""
        return (openmetrics.generate_latest if open_metrics else generate_latest)(self.registry)

    def _publish(self, settings: Settings, version: str) -> None:
        thresholds = settings.thresholds
        level = self._gauge(metrics.BOT_HEALTH_SCORE_THRESHOLD)
        level.labels("low").set(thresholds.low)
        level.labels("critical").set(thresholds.critical)
        self._gauge(metrics.BOT_PROBE_FAILURE_STREAK_THRESHOLD).set(thresholds.streak)
        self.interval.set(settings.interval)
        self._gauge(metrics.BOT_PROBE_TIMEOUT_SECONDS).set(settings.timeout)
        self._gauge(metrics.BOT_EXPORTER_SHARD).set(settings.shard)
        self._gauge(metrics.BOT_EXPORTER_SHARDS).set(settings.total_shards)
        self._gauge(metrics.BOT_EXPORTER_BUILD_INFO).labels(version, platform.python_version()).set(1)

    def _gauge(self, family: Family) -> Gauge:
        return Gauge(family.name, family.help, family.labels, registry=self.registry)

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.labels, registry=self.registry)
