"""What people are told when a run ends. Pure."""

from remediator.model import Run

_SAID = {
    ("deploy", "deployed"): "✅ {bot} is deployed and healthy after {seconds:.0f} s: {why}",
    ("deploy", "failed"): "❌ {bot} could not be deployed: {why}",
    ("recover", "recovered"): "✅ {bot} is healthy again after {seconds:.0f} s: {why}",
    ("recover", "escalated"): "🚨 {bot} needs a person. It is left alone from now on. Tried: {why}",
}


def message(run: Run, outcome: str, why: str, seconds: float, public_url: str) -> str:
    """The text, or nothing where there is nothing that a person should be told."""
    said = _SAID.get((run.kind, outcome))
    if said is None:
        return ""
    text = said.format(bot=run.bot, seconds=seconds, why=why)
    path = "deploy" if run.kind == "deploy" else "recover"
    return f"{text}\n{public_url.rstrip('/')}/{path}/{run.id}" if public_url else f"{text}\n{run.id}"
