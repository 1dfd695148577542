"""What people are told when a run ends. Pure."""

from remediator.model import Run

_SAID = {
    ("recover", "shadowed"): "👥 shadow: {bot} {why}",
    ("deploy", "deployed"): "✅ {bot} is deployed and healthy after {seconds:.0f} s: {why}",
    ("deploy", "failed"): "❌ {bot} could not be deployed: {why}",
    ("redeploy", "deployed"): "🔁 {bot} has moved, after {seconds:.0f} s: {why}",
    ("redeploy", "failed"): "❌ {bot} could not be redeployed: {why}",
    ("adopt", "adopted"): "🤝 {bot} is one of ours now: {why}",
    ("adopt", "failed"): "❌ {bot} could not be adopted: {why}",
    ("retire", "retired"): "👋 {bot} is retired: {why}",
    ("retire", "failed"): "❌ {bot} could not be retired, and is left as it stands: {why}",
    ("recover", "recovered"): "✅ {bot} is healthy again after {seconds:.0f} s: {why}",
    ("recover", "escalated"): "🚨 {bot} needs a person. It is left alone from now on. Tried: {why}",
}


def message(run: Run, outcome: str, why: str, seconds: float, public_url: str) -> str:
    """The text, or nothing where there is nothing that a person should be told."""
    said = _SAID.get((run.kind, outcome))
    if said is None:
        return ""
    text = said.format(bot=run.bot, seconds=seconds, why=why)
    return f"{text}\n{public_url.rstrip('/')}{run.path}" if public_url else f"{text}\n{run.id}"


def approval_wanted(run: Run, tier: str, seen: str, timeout: float) -> str:
    return (
        f"✋ {run.bot} is ill ({seen}). May I {tier} it?\n"
        f"/approve {run.id}\n/deny {run.id}\n"
        f"Without an answer in {timeout / 60:.0f} min it is left alone."
    )


def blindness(why: str) -> str:
    if why:
        return f"🙈 I cannot trust what I see, so I recover nothing: {why}"
    return "👀 I see again, and recover bots as before."


def truncated(count: int) -> str:
    return f"⚠️ Alertmanager left {count} alerts out of a payload. Set max_alerts: 0 in alertmanager.yml."
