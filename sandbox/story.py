"""The demo's play: what befalls the bots, what must happen then, and what did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from sandbox.cloud import Effect
from sandbox.faults import CuredBy, FaultKind
from sandbox.stack import REMEDIATOR_BOT, Stack
from sandbox.waiting import WaitError, wait_until
from sandbox.watch import Snapshot, Watcher

T = TypeVar("T")
TEMPLATES = ("tool-builder", "designer", "support", "manager")
DEPLOY_SECONDS = 60.0
ACT_SECONDS = 60.0  # the longest a step of an act may take; none should take half of it
HELD_PROBES = (
    8  # failed probes in a row through which an outage is watched: recovery would begin at the third
)


@dataclass(frozen=True, slots=True)
class Act:
    name: str
    plot: str
    bots: tuple[str, ...]
    kind: FaultKind
    cured_by: CuredBy
    actions: tuple[str, ...] = ()  # what the cloud must see, each at least once and in this order
    outcome: str = "recovered"


ACTS = (
    Act(
        "killed", "its process is killed; a restart cures it", ("support-1",), "die", "restart", ("restart",)
    ),
    Act(
        "needs-reboot",
        "it hangs, and hangs again after a restart",
        ("designer-1",),
        "hang",
        "reboot",
        ("restart", "reboot"),
    ),
    Act(
        "needs-redeploy",
        "it answers 500 until it gets a new machine",
        ("tool-builder-1",),
        "error",
        "redeploy",
        ("restart", "reboot", "run"),
    ),
    Act(
        "incurable",
        "nothing helps: a person is called",
        ("manager-1",),
        "die",
        "nothing",
        ("restart", "reboot", "run"),
        outcome="escalated",
    ),
    Act(
        "fleet-outage",
        "six of eight die at once: hands off",
        ("support-1", "support-2", "designer-1", "designer-2", "tool-builder-1", "tool-builder-2"),
        "die",
        "restart",
        outcome="held back",
    ),
)


@dataclass(slots=True)
class Result:
    """How an act went. `seconds` run from the fault; None where the act has no such moment."""

    act: Act
    begun: float
    seconds: dict[str, float | None] = field(
        default_factory=lambda: {"alert": None, "action": None, "healthy": None}
    )
    outcome: str = ""
    tier: str = ""  # that cured it
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def mark(self, moment: str, at: float) -> None:
        self.seconds[moment] = round(at - self.begun, 2)

    def as_json(self) -> dict[str, Any]:
        return {
            "act": self.act.name,
            "bot": ", ".join(self.act.bots),
            "fault": self.act.kind,
            "cured_by": self.act.cured_by,
            "tier": self.tier,
            "outcome": self.outcome,
            "seconds": self.seconds,
            "ok": self.ok,
            "problems": self.problems,
        }


@dataclass(slots=True)
class Stage:
    """Where the acts are played, and who is told."""

    stack: Stack
    watcher: Watcher
    narrate: Callable[[str], None]

    async def until(self, condition: Callable[[Snapshot], T | None], what: str) -> T:
        return await self.watcher.until(condition, ACT_SECONDS, what)


async def deploy_fleet(stage: Stage) -> float:
    """Two bots of each template, through the API; the seconds until all are deployed and seen to be well."""
    begun = time.time()
    wanted = [(f"{template}-{number}", template) for number in (1, 2) for template in TEMPLATES]
    answers = await asyncio.gather(*(deploy(stage.stack, bot, template) for bot, template in wanted))
    for answer in answers:
        await wait_until(partial(is_deployed, stage.stack, answer), DEPLOY_SECONDS, "deployed")
    await stage.watcher.until(
        lambda now: now.calm and len(now.bots) == len(wanted), DEPLOY_SECONDS, "all bots seen to be well"
    )
    return time.time() - begun


async def deploy(stack: Stack, bot: str, template: str) -> str:
    wish = {"botName": bot, "botType": template, "environment": "production"}
    answer = await stack.call("POST", "/deploy", {**wish, "telegramToken": f"{len(bot)}:{bot}"})
    return str(answer["deploymentId"])


async def is_deployed(stack: Stack, deployment: str) -> bool:
    answer = await stack.call("GET", f"/deploy/{deployment}")
    if answer["status"] == "failed":
        raise StoryError(f"{answer['botName']} could not be deployed: {answer['reason']}")
    return bool(answer["status"] == "deployed")


class StoryError(RuntimeError):
    """The play cannot go on."""


async def play(act: Act, stage: Stage) -> Result:
    """Play an act to its end. What went otherwise than it should is among the result's problems."""
    result = Result(act, time.time())
    names = act.bots[0] if len(act.bots) == 1 else f"{len(act.bots)} bots"
    stage.narrate(f"{act.name}: {names}: {act.plot}")
    try:
        for bot in act.bots:
            await stage.stack.cloud.fault(bot, act.kind, cured_by=act.cured_by)
        await (play_outage if len(act.bots) > 1 else play_illness)(result, stage)
    except WaitError as error:
        result.problems.append(str(error))
    return result


async def play_illness(result: Result, stage: Stage) -> None:
    """One bot is ill: alert, actions in order, and the end that the act asks for."""
    act, (bot,), until = result.act, result.act.bots, stage.until
    await until(lambda now: now.is_firing("", bot), f"an alert of {bot} in Alertmanager")
    result.mark("alert", time.time())
    first = (await until(lambda now: now.actions(result.begun, bot), f"an action on {bot}"))[0]
    result.mark("action", first.at)
    run = await until(lambda now: ended(now, bot, result.begun), f"the end of {bot}'s recovery")
    result.outcome, result.tier = run["status"], run["tier"]
    if act.outcome == "escalated":
        result.mark("escalated", seconds_of(run["finishedAt"]))
        result.tier = ""
        await until_told(result, stage, bot)
    else:
        await until(lambda now: is_well(now, bot), f"{bot} seen to be well")
        result.mark("healthy", time.time())
    effects = await stage.stack.cloud.effects()
    judge(result, [effect for effect in effects if effect.bot == bot and effect.at >= result.begun])
    if act.outcome == "escalated":
        await a_person_comes(stage, bot)
    await until(lambda now: now.calm, "calm")


async def until_told(result: Result, stage: Stage, bot: str) -> None:
    """The remediator's message about the bot, in Telegram."""

    async def told() -> bool:
        messages = stage.stack.telegram
        return any(m.at > result.begun and m.token == REMEDIATOR_BOT and bot in m.text for m in messages)

    await wait_until(told, ACT_SECONDS, f"a Telegram message about {bot}")


async def a_person_comes(stage: Stage, bot: str) -> None:
    stage.narrate(f"a person mends {bot}'s cause and asks for a restart, which ends its quarantine")
    await stage.stack.cloud.heal(bot)
    await stage.stack.call("POST", f"/recover/{bot}?wait=20", {"method": "restart"})


async def play_outage(result: Result, stage: Stage) -> None:
    """Most bots are ill: nothing may be done to any, and it must be said why."""
    until, stack = stage.until, stage.stack
    await until(lambda now: now.is_firing("BotFleetOutage"), "BotFleetOutage in Alertmanager")
    result.mark("alert", time.time())
    first = result.act.bots[0]
    stage.narrate(
        f"Alertmanager inhibits single alerts; {first}'s is delivered all the same, as after its restart"
    )
    alert = await until(lambda now: alert_of(now, first), f"an alert of {first}, inhibited")
    await stack.call("POST", "/alerts", webhook(alert))
    await until(lambda now: held(now, first, result.begun), f"{first}'s recovery held back")
    await until(lambda now: now.storm.get("active"), "the storm in /dashboard")
    await until(lambda now: streaks(now, result.act.bots) >= HELD_PROBES, "a while of holding back")
    effects = [effect for effect in await stack.cloud.effects() if effect.at >= result.begun]
    result.problems += [f"{effect.action} of {effect.bot} during the outage" for effect in effects]
    result.outcome = "held back"
    stage.narrate(f"nothing was done through {HELD_PROBES} failed probes; now the cause goes away")
    await stack.cloud.heal(first)  # before the others: it must be well when the gate opens again
    await stack.cloud.heal()
    await until(lambda now: now.calm and not now.storm.get("active"), "calm after the outage")
    result.mark("healthy", time.time())


def judge(result: Result, effects: Iterable[Effect]) -> None:
    """Compare what was done, and how it ended, with what the act asks for."""
    act = result.act
    if result.outcome != act.outcome:
        result.problems.append(f"it ended as {result.outcome}, not {act.outcome}")
    if act.outcome == "recovered" and result.tier != act.cured_by:
        result.problems.append(f"{result.tier or 'nothing'} cured it, not {act.cured_by}")
    done = tuple(effect.action for effect in effects if effect.action in ("restart", "reboot", "run"))
    if done != act.actions:
        result.problems.append(f"the cloud saw {', '.join(done) or 'nothing'}, not {', '.join(act.actions)}")


def ended(now: Snapshot, bot: str, since: float) -> dict[str, Any] | None:
    return next((run for run in runs(now, bot, since) if run["finishedAt"]), None)


def held(now: Snapshot, bot: str, since: float) -> dict[str, Any] | None:
    """Its run, while the fleet gate holds it."""
    blocked = (run for run in runs(now, bot, since) if run["status"] == "blocked")
    return next((run for run in blocked if run["reason"].startswith("fleet")), None)


def runs(now: Snapshot, bot: str, since: float) -> list[dict[str, Any]]:
    return [run for run in now.recoveries if run["botId"] == bot and seconds_of(run["startedAt"]) >= since]


def alert_of(now: Snapshot, bot: str) -> dict[str, Any] | None:
    """The bot's alert that asks for recovery, as Alertmanager holds it."""
    asking = (alert for alert in now.alerts if alert["labels"].get("remediation") == "auto")
    return next((alert for alert in asking if alert["labels"].get("bot") == bot), None)


def is_well(now: Snapshot, bot: str) -> bool:
    found = now.bot(bot)
    return found is not None and found.well


def streaks(now: Snapshot, bots: Iterable[str]) -> int:
    """The shortest streak of failed probes among them."""
    return min((found.streak if (found := now.bot(bot)) else 0) for bot in bots)


def seconds_of(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()


def webhook(alert: dict[str, Any]) -> dict[str, Any]:
    """What Alertmanager posts for one of its alerts (webhook, version 4)."""
    member = {
        "status": "firing",
        "labels": alert["labels"],
        "annotations": alert["annotations"],
        "startsAt": alert["startsAt"],
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": alert["generatorURL"],
        "fingerprint": alert["fingerprint"],
    }
    return {
        "version": "4",
        "groupKey": "sandbox",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "remediator",
        "groupLabels": {"bot": alert["labels"]["bot"]},
        "commonLabels": alert["labels"],
        "commonAnnotations": alert["annotations"],
        "externalURL": "",
        "alerts": [member],
    }
