"""The watcher watched: exporter, remediator, Prometheus, Alertmanager, and the path between them."""

from dashboards.adapter import dashboard
from dashboards.panels import WATCHERS, YES_NO, bars, counter, lines, none_is_good, states, words
from dashboards.queries import meta_monitoring as queries
from dashboards.style import BLUE, GREEN, RED, YELLOW, Json, Query, Row, steps

NOW = Row(
    "Now",
    [
        counter(
            "Watchdog",
            "An alert that always fires: Prometheus evaluates its rules.",
            queries.WATCHDOG,
            steps((RED, None), (GREEN, 1)),
            unit="none",
            no_value="rules are not evaluated",
            mappings=words((1, "firing", GREEN)),
        ),
        counter(
            "Targets",
            "Bots the exporters probe.",
            queries.TARGETS,
            steps((BLUE, None)),
            no_value="no exporter",
        ),
        counter(
            "Refused targets",
            "Targets refused at the last load. The exporter's log says which and why.",
            queries.INVALID,
            none_is_good(RED),
            no_value="no exporter",
        ),
        counter(
            "Targets read",
            "Whether every source of targets was read and valid at the last load.",
            queries.RELOADED,
            steps((RED, None), (GREEN, 1)),
            unit="none",
            no_value="no exporter",
            mappings=YES_NO,
        ),
        counter(
            "Probes in flight",
            "Probes running now. At its limit, the exporter cannot keep up with slow bots.",
            queries.IN_FLIGHT,
            steps((BLUE, None)),
            no_value="no exporter",
        ),
        counter(
            "Unsent alerts",
            "Alerts Prometheus could not hand to Alertmanager lately.",
            queries.DROPPED,
            none_is_good(RED),
            no_value="no Prometheus",
        ),
        counter(
            "Watchdog's age",
            "How long ago Prometheus last evaluated the alert that always fires.",
            queries.WATCHDOG_AGE,
            steps((GREEN, None), (YELLOW, 60), (RED, 300)),
            unit="s",
            no_value="rules are not evaluated",
            width=6,
        ),
        counter(
            "Oldest probe",
            "How long ago the bot that waited longest was probed: a sweep of the fleet takes one interval.",
            queries.OLDEST_PROBE,
            steps((GREEN, None), (YELLOW, 120), (RED, 240)),
            unit="s",
            no_value="no exporter",
            width=6,
        ),
        counter(
            "Shards",
            "How many exporters share the fleet.",
            queries.SHARDS,
            steps((BLUE, None)),
            no_value="no exporter",
            width=6,
        ),
        counter(
            "Shards seen",
            "Shards whose exporter answers. Fewer than there are: some bots are probed by nobody.",
            queries.SHARDS_SEEN,
            steps((BLUE, None)),
            no_value="no exporter",
            width=6,
        ),
    ],
)

SERVICES = Row(
    "Services",
    [
        states(
            "Up",
            "Whether Prometheus could scrape each service.",
            [Query(queries.UP, legend="{{job}}")],
            "nothing is scraped",
            words((0, "down", RED), (1, "up", GREEN)),
            24,
        ),
        lines(
            "Scrapes",
            "How long each service's /metrics took. The scrape times out at 10 s.",
            [Query(queries.SCRAPES, legend="{{job}}")],
            "s",
            "nothing is scraped",
            width=8,
        ),
        lines(
            "CPU",
            "Cores used. One exporter uses one core at most: shard before that.",
            [Query(queries.CPU, legend="{{job}}")],
            "short",
            "nothing is scraped",
            width=8,
        ),
        lines(
            "Memory",
            "Resident memory. One that only grows is a leak.",
            [Query(queries.MEMORY, legend="{{job}}")],
            "bytes",
            "nothing is scraped",
            width=8,
        ),
    ],
)

SCHEDULE = Row(
    "Schedule",
    [
        lines(
            "Schedule lag",
            "How long after its slot a probe started. Beyond a second the exporter lacks CPU.",
            [Query(queries.lag(q), legend=f"p{q * 100:g}") for q in (0.5, 0.99)],
            "s",
            "no probes in this time",
            steps((GREEN, None), (YELLOW, 0.1), (RED, 1)),
        ),
        bars(
            "Skipped probes",
            "Probes not made because the bot's previous one still ran.",
            queries.SKIPPED,
            "skipped",
            [],
            "no exporter",
        ),
    ],
)

PATH = Row(
    "Rules and delivery",
    [
        lines(
            "Rules",
            "How long each group took at last. Beyond the interval of 15 s, evaluations are missed.",
            [Query(queries.RULE_SECONDS, legend="{{rule_group}}")],
            "s",
            "no Prometheus",
            width=8,
        ),
        bars(
            "Rule failures",
            "Evaluations that failed: what does not evaluate does not fire.",
            queries.RULE_FAILURES,
            "{{rule_group}}",
            [],
            "no Prometheus",
            8,
        ),
        lines(
            "Alerts in Alertmanager",
            "Alerts it holds; suppressed ones are silenced or inhibited.",
            [Query(queries.ACTIVE_ALERTS, legend="{{state}}")],
            "short",
            "no Alertmanager",
            width=8,
        ),
        bars(
            "Notifications",
            "Notifications by integration: webhook is the remediator, the Watchdog included.",
            queries.SENT,
            "{{integration}}",
            [],
            "no notification",
            8,
        ),
        bars(
            "Failed notifications",
            "Notifications given up after retries. By webhook: recovery is off.",
            queries.UNSENT,
            "{{integration}}",
            [],
            "none failed",
            8,
        ),
        lines(
            "Delivery",
            "p99 of the time to deliver: the remediator writes alerts to disk before it answers.",
            [Query(queries.DELIVERY, legend="{{integration}}")],
            "s",
            "no notification",
            width=8,
        ),
    ],
)


def build() -> Json:
    return dashboard(
        uid=WATCHERS,
        title="Bots: the watcher watched",
        description="Exporter, remediator, Prometheus, Alertmanager, and the path between them.",
        rows=[NOW, SERVICES, SCHEDULE, PATH],
    )
