"""One bot's story, for a person who wonders why, and what comes next. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from remediator.model import TIERS, Approval, AuditEntry, Bot, Hold, Run, Step, StoredVerdict
from remediator.settings import Settings
from remediator.timestamps import iso

_SENTENCES: Final = {
    "alert.firing": "alert {alert} is firing since {starts_at}",
    "alert.resolved": "alert {alert} is resolved",
    "run.started": "recovery {run} begins, because {alert} is firing",
    "recover.asked": "{actor} asked for a {method} ({run})",
    "deploy.asked": "{actor} asked for its deployment from {template} ({run})",
    "gate.held": "gate {gate} holds {tier} back: {why}",
    "approval.asked": "a person was asked for a yes to {tier}",
    "approval.yes": "{actor} said yes to {tier}",
    "approval.no": "{actor} said no to {tier}",
    "cancel.asked": "{actor} asked for the end of {run}: {reason}",
    "tier.intended": "{tier} begins on {instance}",
    "tier.shadowed": "shadow: {tier} would begin now",
    "tier.cured": "{tier} cured it: {seen}",
    "tier.not_cured": "{tier} did not cure it: {seen}",
    "step.acted": "{step} was carried out: {detail}",
    "step.failed": "{step} failed: {detail}",
    "step.done": "{step}: {detail}",
    "quarantine.cleared": "{actor} ended its quarantine ({was})",
    "hold.added": "{actor} paused it: {reason}",
}
NOTHING: Final = "nothing ever happened\n"
_SILENT: Final = frozenset({"step.intended"})


@dataclass(frozen=True, slots=True)
class Story:
    """What happened, by Unix time, and what is ahead."""

    bot: str
    state: str
    lines: Sequence[tuple[float, str]]
    ahead: Sequence[str]

    def view(self) -> dict[str, Any]:
        """Return it as JSON."""
        lines = [{"at": iso(at), "what": sentence} for at, sentence in self.lines]
        return {"bot": self.bot, "state": self.state, "story": lines, "next": list(self.ahead)}

    def text(self) -> str:
        """Return it as text, a line a sentence."""
        lines = "".join(f"{iso(at)}  {sentence}\n" for at, sentence in self.lines)
        ahead = "".join(f"  {line}\n" for line in self.ahead)
        return f"{self.bot}: {self.state}\n\n{lines or NOTHING}\nnext:\n{ahead}"


def explain(
    bot: Bot,
    run: Run | None,
    *,
    steps: Sequence[Step],
    verdicts: Sequence[StoredVerdict],
    trail: Sequence[AuditEntry],
    approval: Approval | None,
    holds: Sequence[Hold],
    settings: Settings,
    now: float,
) -> Story:
    """Return the story. `trail`: the bot's, oldest first; `steps`, `verdicts`: of `run`, its newest."""
    lines = [  # before what followed from them in the same moment: the sort is stable
        (
            verdict.at,
            f"gate {verdict.gate} {'lets' if verdict.allowed else 'does not let'} {verdict.tier}: "
            f"{verdict.why}",
        )
        for verdict in verdicts
    ]
    lines += [(entry.at, text) for entry in trail if (text := _sentence(entry))]
    lines.sort(key=lambda line: line[0])
    state = "quarantined" if bot.quarantined_at is not None else bot.state
    return Story(bot.name, state, lines, _ahead(bot, run, steps, approval, holds, settings, now))


def _sentence(entry: AuditEntry) -> str:
    """Return what an entry of the trail says in words; empty where it adds nothing."""
    if entry.event in _SILENT:
        return ""
    facts = {**entry.detail, "actor": entry.actor, "run": entry.run_id}
    if entry.event.startswith("run.") and entry.event != "run.started":
        return f"{entry.run_id} ended as {entry.event.removeprefix('run.')}: {facts.get('why', '')}"
    sentence = _SENTENCES.get(entry.event)
    try:
        return sentence.format(**facts) if sentence else f"{entry.event} {dict(entry.detail)}"
    except KeyError:
        return f"{entry.event} {dict(entry.detail)}"


def _ahead(
    bot: Bot,
    run: Run | None,
    steps: Sequence[Step],
    approval: Approval | None,
    holds: Sequence[Hold],
    settings: Settings,
    now: float,
) -> list[str]:
    """Return what happens next, and what a person can do."""
    if run is None or run.finished_at is not None:
        if bot.quarantined_at is not None:
            return [
                f"nothing: in quarantine since {iso(bot.quarantined_at)} ({bot.quarantine_reason})",
                f"DELETE /bots/{bot.name}/quarantine ends that; POST /recover/{bot.name} acts now",
            ]
        return [f"paused: {hold.reason}" for hold in holds] or ["nothing is under way"]
    if run.status == "blocked":
        lines = [f"held by {run.reason}", f"the gates are asked again within {settings.gate_interval:g} s"]
        if approval is not None:
            lines.append(f"without an answer by {iso(approval.expires_at)} it is left to people")
        return lines
    current = next((step for step in reversed(steps) if step.name in TIERS), None)
    if current is None or current.state not in ("intended", "acted"):
        return ["the gates are being asked"]
    timeout = {
        "restart": settings.restart_timeout,
        "reboot": settings.reboot_timeout,
        "redeploy": settings.redeploy_timeout,
    }[current.name]
    index = TIERS.index(current.name) + 1
    after = f"{TIERS[index]}, if the gates allow it" if index < len(TIERS) else "a person is called"
    if current.state == "intended":
        return [f"{current.name} is being carried out", f"if that fails: {after}"]
    until = (current.acted_at or now) + timeout
    return [
        f"{settings.verify_probes} healthy probes in a row, for {settings.stability_window:g} s, prove it",
        f"if it is not healthy by {iso(until)}: {after}",
    ]
