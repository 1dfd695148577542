"""The texts that people get. Pure."""

from typing import Final

from remediator.model import Run

TEMPLATES: Final = {
    ("recover", "shadowed"): "👥 shadow: {bot} {reason}",
    ("deploy", "deployed"): "✅ {bot} is deployed and healthy after {seconds:.0f} s: {reason}",
    ("deploy", "failed"): "❌ {bot} could not be deployed: {reason}",
    ("redeploy", "deployed"): "🔁 {bot} has moved, after {seconds:.0f} s: {reason}",
    ("redeploy", "failed"): "❌ {bot} could not be redeployed: {reason}",
    ("adopt", "adopted"): "🤝 {bot} is one of ours now: {reason}",
    ("adopt", "failed"): "❌ {bot} could not be adopted: {reason}",
    ("retire", "retired"): "👋 {bot} is retired: {reason}",
    ("retire", "failed"): "❌ {bot} could not be retired, and is left as it stands: {reason}",
    ("recover", "recovered"): "✅ {bot} is healthy again after {seconds:.0f} s: {reason}",
    ("recover", "escalated"): "🚨 {bot} needs a person. It is left alone from now on. Tried: {reason}",
}


def message(run: Run, outcome: str, reason: str, seconds: float, public_url: str) -> str:
    """Return the text at the end of a run; "" where there is nothing that a person should be told."""
    template = TEMPLATES.get((run.kind, outcome))
    if template is None:
        return ""
    text = template.format(bot=run.bot, seconds=seconds, reason=reason)
    return f"{text}\n{public_url.rstrip('/')}{run.path}" if public_url else f"{text}\n{run.id}"


def approval_wanted(run: Run, tier: str, observed: str, timeout: float) -> str:
    """Ask for a person's yes; `observed`: how the bot is ill; `timeout`: seconds until it is too late."""
    return (
        f"✋ {run.bot} is ill ({observed}). May I {tier} it?\n"
        f"/approve {run.id}\n/deny {run.id}\n"
        f"Without an answer in {timeout / 60:.0f} min it is left alone."
    )


def monitoring_lost(reason: str) -> str:
    """Say that alerts cannot be trusted."""
    return f"🙈 I cannot trust what I see, so I recover nothing: {reason}"


def monitoring_restored() -> str:
    """Say that they can be trusted again."""
    return "👀 I see again, and recover bots as before."


def dependency_lost(reason: str) -> str:
    """Say that what many bots need is away."""
    return f"🔌 {reason}: what they need is likely away, so I restart none of them for it."


def dependency_restored(reason: str) -> str:
    """Say that it is back; `reason`: what was seen while it was away."""
    return f"🔌 Over: {reason}. From now on I act on each such bot again."


def truncated(count: int) -> str:
    """Say that Alertmanager left alerts out of a payload."""
    return f"⚠️ Alertmanager left {count} alerts out of a payload. Set max_alerts: 0 in alertmanager.yml."
