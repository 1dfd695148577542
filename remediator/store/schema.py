"""The tables. Times are Unix seconds; names of columns are the names of the dataclasses' fields."""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

bots = Table(
    "bots",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("template", String(63), nullable=False),
    Column("environment", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # deploying, active
    Column("address", String(255), nullable=False),  # host:port, empty until there is one
    Column("health_path", String(255), nullable=False),
    Column("mesh_path", String(255), nullable=False),
    Column("instance_id", String(32), nullable=False),
    Column("config", JSON, nullable=False),
    Column("config_sha", String(64), nullable=False),
    Column("boot_id", String(64)),  # as last seen by a probe of ours
    Column("started_at", String(64)),
    Column("zone", String(32), nullable=False, server_default=""),
    Column("quarantined_at", Float),
    Column("quarantine_reason", Text),
    Column("attempts_from", Float, nullable=False, server_default="0"),  # earlier ones no longer count
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("overrides", JSON, nullable=False, server_default="{}"),  # of the template's fields, as it runs
    Column("version", Integer, nullable=False, server_default="0"),  # of config
    Column("standby_instance_id", String(32), nullable=False, server_default=""),  # stopped, to go back to
    Column("standby_until", Float),  # when it is terminated
    Column("allocation_id", String(32), nullable=False, server_default=""),  # of its Elastic IP
)

# Every configuration a bot ever had. Kept when the bot goes, so that no number is used twice.
config_versions = Table(
    "config_versions",
    metadata,
    Column("bot", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("config", JSON, nullable=False),
    Column("config_sha", String(64), nullable=False),
    Column("overrides", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("origin", String(16), nullable=False),  # deploy, change, rollback, redeploy, adopt
    Column("diff", JSON, nullable=False),  # [{path, from, to}] against the version before
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),  # recover, deploy, redeploy, …
    Column("bot", String(63), nullable=False),
    Column("trigger", String(16), nullable=False),  # alert, manual
    Column("method", String(16), nullable=False),  # the tier it starts at; empty for a deploy
    Column("status", String(16), nullable=False),  # running, blocked, or how it ended
    Column("reason", Text, nullable=False),
    Column("tier", String(16), nullable=False),  # the tier in hand, empty before the first
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("owner", String(64)),  # the replica that drives it
    Column("lease_until", Float),  # another may take it over from then on
    Column("fence", Integer, nullable=False, server_default="0"),  # grows with each owner
    Column("cancel", Text),  # who asked for its end, and why
    Index("ix_runs_bot_created_at", "bot", "created_at"),
)
# One active run a bot, held by the database: neither a race nor a bug of ours can start two. In PostgreSQL
# too, by the migration; saying so here would load its dialect, 2 MB, where it is not used.
_active = runs.c.finished_at.is_(None)
Index("uq_runs_active_bot", runs.c.bot, unique=True, sqlite_where=_active)

alerts = Table(
    "alerts",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("starts_at", Float, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("bot", String(63), nullable=False),
    Column("status", String(16), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("times_seen", Integer, nullable=False),
    Column("run_id", String(64), ForeignKey("runs.id"), index=True),
    Column("ignored", String(32), nullable=False),  # why it led to no run; empty if it did
)

steps = Table(
    "steps",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # intended, acted, done, cured, not_cured, failed
    Column("request", JSON, nullable=False),  # what is about to be done, exactly, before it is
    Column("result", JSON, nullable=False),
    Column("detail", Text, nullable=False),
    Column("intended_at", Float, nullable=False),
    Column("acted_at", Float),
    Column("finished_at", Float),
    Index("uq_steps_run_id_name", "run_id", "name", unique=True),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("tier", String(16), nullable=False),
    Column("gate", String(32), nullable=False),
    Column("allowed", Boolean, nullable=False),
    Column("why", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("event", String(64), nullable=False),
    Column("bot", String(63), nullable=False, index=True),
    Column("run_id", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("hash", String(64), nullable=False, server_default=""),  # of this row and the hash before it
)

# What keeps automatic recovery off: a pause until it is lifted, or a maintenance window until it is over.
holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("scope", String(16), nullable=False),  # fleet, template, environment, bot
    Column("name", String(63), nullable=False),  # of the template, environment or bot; empty for the fleet
    Column("reason", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("starts_at", Float, nullable=False),
    Column("ends_at", Float),  # none: until it is lifted
)

approvals = Table(
    "approvals",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("tier", String(16), primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("decision", String(8), nullable=False),  # empty while nobody has spoken; yes, no
    Column("actor", String(255), nullable=False),
)

# A rolling update, and the bots in it in the order they are redeployed.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("status", String(16), nullable=False),  # running, paused, stopped, cancelled, completed
    Column("why", Text, nullable=False),  # what it is at, what holds it, or how it came to its status
    Column("reason", Text, nullable=False),  # why it was asked for
    Column("actor", String(255), nullable=False),
    Column("selection", JSON, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("max_unavailable", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
)

rollout_members = Table(
    "rollout_members",
    metadata,
    Column("rollout_id", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("bot", String(63), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("run_id", String(64)),  # its redeploy, once that was begun
    Column("skipped", Text, nullable=False, server_default=""),  # why it is left out
)

# The few facts that all replicas share: since when a storm, how far Telegram's updates were read.
facts = Table(
    "facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", JSON, nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("sent_at", Float),
)

# Prices as last fetched, by region; without a row those that are shipped hold.
prices = Table(
    "prices",
    metadata,
    Column("region", String(32), primary_key=True),
    Column("as_of", String(32), nullable=False),  # the date that the list itself gives
    Column("source", String(255), nullable=False),
    Column("fetched_at", Float, nullable=False),
    Column("items", JSON, nullable=False),
)

# What a component of a bot cost from when to when. A new row only where that changed.
rates = Table(
    "rates",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("bot", String(63), nullable=False, index=True),
    Column("template", String(63), nullable=False),
    Column("environment", String(32), nullable=False),
    Column("component", String(16), nullable=False),  # instance, volume, address, burst
    Column("since", Float, nullable=False),
    Column("until", Float),  # none: still so
    Column("usd_per_hour", Float),  # none: unknown
)

# What a bot's requests to a model have cost in a month (UTC, as 2026-11).
model_spend = Table(
    "model_spend",
    metadata,
    Column("bot", String(63), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("template", String(63), primary_key=True),
    Column("environment", String(32), primary_key=True),
    Column("usd", Float, nullable=False),
    Column("requests", Float, nullable=False),
    Column("unpriced", Float, nullable=False),  # requests of which the price is unknown
    Column("input_tokens", Float, nullable=False),
    Column("output_tokens", Float, nullable=False),
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),
)

# How far a bot's usage was counted.
usage_marks = Table(
    "usage_marks",
    metadata,
    Column("bot", String(63), primary_key=True),
    Column("at", Float, nullable=False),
    Column("requests", Float, nullable=False),
    Column("input_tokens", Float, nullable=False),
    Column("output_tokens", Float, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("scope", String(16), primary_key=True),  # fleet, template, environment
    Column("name", String(63), primary_key=True),  # of the template or environment; `all` for the fleet
    Column("usd", Float, nullable=False),  # a month
    Column("refuse", Boolean, nullable=False),  # deploys that would take it over
    Column("reason", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("at", Float, nullable=False),
)

# Advice as it stands: what was said last keeps it from flapping.
advice = Table(
    "advice",
    metadata,
    Column("bot", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),  # instance, model
    Column("target", String(128), nullable=False),  # empty: stay as it is
    Column("since", Float, nullable=False),  # that the target is this
    Column("at", Float, nullable=False),
    Column("body", JSON, nullable=False),
)

# A group of bots that scales: since when it is short or calm, what was done last, what waits for a yes.
scaling = Table(
    "scaling",
    metadata,
    Column("template", String(63), primary_key=True),
    Column("environment", String(32), primary_key=True),
    Column("state", JSON, nullable=False),
)
