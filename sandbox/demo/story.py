"""The demo's play: the faults of the bots, what must happen then, and the comparison with what did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar

from sandbox.cloud.client import Effect
from sandbox.cloud.faults import CuredBy, FaultKind
from sandbox.process.processes import free_port
from sandbox.process.waiting import WaitError, wait_until
from sandbox.stack.snapshot import Snapshot, Watcher
from sandbox.stack.stack import REMEDIATOR_BOT, Stack
from sandbox.stack.telegram import CONFLICT, PERSON
from sandbox.stack.timescale import FAST, Timescale

T = TypeVar("T")
TEMPLATES = ("tool-builder", "designer", "support", "manager")
STEP_SECONDS = 60.0  # the longest a step may take; none should take half of it
REAL_STEP_SECONDS = 600.0  # a gateway starts in ten seconds on two idle cores, in minutes on busy ones
# Failed probes in a row through which an outage is watched: recovery would begin at the third.
HELD_PROBES = 8


@dataclass(frozen=True, slots=True)
class Act:
    """A fault of some bots, and the recovery that must follow."""

    name: str
    plot: str
    bots: tuple[str, ...]
    kind: FaultKind | Literal["deaf"]  # deaf: another polls Telegram, until the bot is acted on
    cured_by: CuredBy
    actions: tuple[str, ...] = ()  # that the cloud must see, in this order
    outcome: str = "recovered"
    alerts: tuple[str, ...] = ()  # one of them must fire; none: any that asks for recovery


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

REAL_ACTS = (
    Act("frozen", "it is stopped (SIGSTOP); a restart cures it", ("ada",), "hang", "restart", ("restart",)),
    Act(
        "deaf",
        "another fetches its messages: it lives, and hears nobody",
        ("bob",),
        "deaf",
        "restart",
        ("restart",),
        alerts=("BotDeaf", "BotQueueStalled"),
    ),
)


@dataclass(frozen=True, slots=True)
class Play:
    """What is played: bots and their templates, acts, and the clock. `real`: the bots are OpenClaw."""

    bots: Mapping[str, str]
    acts: tuple[Act, ...]
    real: bool = False
    scale: Timescale = FAST
    step_seconds: float = STEP_SECONDS
    settings: Mapping[str, str] = field(default_factory=dict)  # of the remediator


PLAY = Play({f"{template}-{number}": template for number in (1, 2) for template in TEMPLATES}, ACTS)
REAL_PLAY = Play(
    {"ada": "support", "bob": "manager"},
    REAL_ACTS,
    real=True,
    scale=Timescale(12, period_floor=5, range_floor=20),
    step_seconds=REAL_STEP_SECONDS,
    # What the real one takes, it takes, whatever the clock.
    settings={
        "RESTART_TIMEOUT": "10m",
        "REDEPLOY_TIMEOUT": "10m",
        "PROBE_TIMEOUT": "5s",
        "AWS_TIMEOUT": "15s",
    },
)


@dataclass(slots=True)
class Result:
    """The result of an act. `seconds` run from the fault; None where the act has no such moment."""

    act: Act
    begun: float
    seconds: dict[str, float | None] = field(
        default_factory=lambda: {"alert": None, "action": None, "healthy": None}
    )
    alert: str = ""  # the name of the first one
    outcome: str = ""
    tier: str = ""  # that cured it
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def mark(self, moment: str, at: float) -> None:
        """Record when something happened, in Unix seconds."""
        self.seconds[moment] = round(at - self.begun, 2)

    def as_json(self) -> dict[str, Any]:
        return {
            "act": self.act.name,
            "bot": ", ".join(self.act.bots),
            "fault": self.act.kind,
            "cured_by": self.act.cured_by,
            "alert": self.alert,
            "tier": self.tier,
            "outcome": self.outcome,
            "seconds": self.seconds,
            "ok": self.ok,
            "problems": self.problems,
        }


@dataclass(slots=True)
class Stage:
    """The stack that the acts are played on, its watcher, and the narrator."""

    stack: Stack
    watcher: Watcher
    narrate: Callable[[str], None]
    step_seconds: float = STEP_SECONDS

    async def until(self, condition: Callable[[Snapshot], T | None], what: str) -> T:
        """Return the condition's first true value; WaitError after `step_seconds`."""
        return await self.watcher.until(condition, self.step_seconds, what)


async def deploy_fleet(stage: Stage, play: Play = PLAY) -> float:
    """Deploy the bots of a play through the API; returns the seconds until all are well."""
    begun = time.time()
    deploying = (deploy(stage.stack, bot, template, play.real) for bot, template in play.bots.items())
    for answer in await asyncio.gather(*deploying):
        await wait_until(partial(is_deployed, stage.stack, answer), play.step_seconds, "deployed")
    await stage.until(lambda now: now.calm and len(now.bots) == len(play.bots), "all bots seen to be well")
    return time.time() - begun


async def deploy(stack: Stack, bot: str, template: str, real: bool = False) -> str:
    """Begin a deployment, and return its id. A real bot has a port of its own."""
    request = {"botName": bot, "botType": template, "environment": "production"}
    overrides = {"probe": {"port": free_port()}, "allow_from": [PERSON]} if real else {}
    answer = await stack.call(
        "POST", "/deploy", {**request, "telegramToken": token_of(bot), "overrides": overrides}
    )
    return str(answer["deploymentId"])


def token_of(bot: str) -> str:
    """Return the Telegram token with which a bot is deployed."""
    return f"{len(bot)}:{bot}"


async def is_deployed(stack: Stack, deployment: str) -> bool:
    """Return whether a deployment has ended well; StoryError where it failed."""
    answer = await stack.call("GET", f"/deploy/{deployment}")
    if answer["status"] == "failed":
        raise StoryError(f"{answer['botName']} could not be deployed: {answer['reason']}")
    return bool(answer["status"] == "deployed")


class StoryError(RuntimeError):
    """The play cannot go on."""


async def play(act: Act, stage: Stage) -> Result:
    """Play an act to its end. Each difference from what should happen is among the result's problems."""
    result = Result(act, time.time())
    names = act.bots[0] if len(act.bots) == 1 else f"{len(act.bots)} bots"
    stage.narrate(f"{act.name}: {names}: {act.plot}")
    try:
        for bot in act.bots:
            await inflict(stage.stack, bot, act)
        await (play_outage if len(act.bots) > 1 else play_illness)(result, stage)
    except WaitError as error:
        result.problems.append(str(error))
    return result


async def inflict(stack: Stack, bot: str, act: Act) -> None:
    """Make the bot ill."""
    if act.kind == "deaf":
        stack.telegram.refused[token_of(bot)] = CONFLICT
        stack.telegram.write(token_of(bot), "Is anybody there?")
    else:
        await stack.cloud.fault(bot, act.kind, cured_by=act.cured_by)


async def play_illness(result: Result, stage: Stage) -> None:
    """Play the illness of one bot: alert, actions in order, and the end that the act asks for."""
    act, (bot,), until = result.act, result.act.bots, stage.until
    alert = await until(lambda now: alert_of(now, bot, act.alerts), f"an alert of {bot} in Alertmanager")
    result.mark("alert", time.time())
    result.alert = alert["labels"]["alertname"]
    first = (await until(lambda now: now.actions(result.begun, bot), f"an action on {bot}"))[0]
    result.mark("action", first.at)
    stage.stack.telegram.refused.pop(token_of(bot), None)
    run = await until(lambda now: ended_run(now, bot, result.begun), f"the end of {bot}'s recovery")
    result.outcome, result.tier = run["status"], run["tier"]
    if act.outcome == "escalated":
        result.mark("escalated", seconds_of(run["finishedAt"]))
        result.tier = ""
        await until_notified(result, stage, bot)
    else:
        await until(lambda now: is_well(now, bot), f"{bot} seen to be well")
        if act.kind == "deaf":
            await wait_until(partial(has_answered, result, stage), stage.step_seconds, f"{bot}'s answer")
        result.mark("healthy", time.time())
    effects = await stage.stack.cloud.effects()
    judge(result, [effect for effect in effects if effect.bot == bot and effect.at >= result.begun])
    if act.outcome == "escalated":
        await mend_by_hand(stage, bot)
    await until(lambda now: now.calm, "calm")


async def until_notified(result: Result, stage: Stage, bot: str) -> None:
    """Wait for the remediator's message about the bot, in Telegram."""

    async def notified() -> bool:
        messages = stage.stack.telegram.messages
        return any(
            message.at > result.begun and message.token == REMEDIATOR_BOT and bot in message.text
            for message in messages
        )

    await wait_until(notified, stage.step_seconds, f"a Telegram message about {bot}")


async def mend_by_hand(stage: Stage, bot: str) -> None:
    """Do what a person would: end the cause, and ask for a restart."""
    stage.narrate(f"a person mends {bot}'s cause and asks for a restart, which ends its quarantine")
    await stage.stack.cloud.heal(bot)
    await stage.stack.call("POST", f"/recover/{bot}?wait=20", {"method": "restart"})


async def play_outage(result: Result, stage: Stage) -> None:
    """Play an outage of most bots: nothing may be done to any, and a reason must be given."""
    until, stack = stage.until, stage.stack
    await until(lambda now: now.is_firing("BotFleetOutage"), "BotFleetOutage in Alertmanager")
    result.mark("alert", time.time())
    first = result.act.bots[0]
    stage.narrate(
        f"Alertmanager inhibits single alerts; {first}'s is delivered all the same, as after its restart"
    )
    alert = await until(lambda now: alert_of(now, first), f"an alert of {first}, inhibited")
    await stack.call("POST", "/alerts", webhook(alert))
    await until(lambda now: held_run(now, first, result.begun), f"{first}'s recovery held back")
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
    """Compare the actions and the outcome with what the act asks for."""
    act = result.act
    if result.outcome != act.outcome:
        result.problems.append(f"it ended as {result.outcome}, not {act.outcome}")
    if act.outcome == "recovered" and result.tier != act.cured_by:
        result.problems.append(f"{result.tier or 'nothing'} cured it, not {act.cured_by}")
    done = tuple(effect.action for effect in effects if effect.action in ("restart", "reboot", "run"))
    if done != act.actions:
        result.problems.append(f"the cloud saw {', '.join(done) or 'nothing'}, not {', '.join(act.actions)}")


def ended_run(now: Snapshot, bot: str, since: float) -> dict[str, Any] | None:
    return next((run for run in runs(now, bot, since) if run["finishedAt"]), None)


def held_run(now: Snapshot, bot: str, since: float) -> dict[str, Any] | None:
    """Return its run, while the fleet gate holds it."""
    blocked = (run for run in runs(now, bot, since) if run["status"] == "blocked")
    return next((run for run in blocked if run["reason"].startswith("fleet")), None)


def runs(now: Snapshot, bot: str, since: float) -> list[dict[str, Any]]:
    return [run for run in now.recoveries if run["botId"] == bot and seconds_of(run["startedAt"]) >= since]


def alert_of(now: Snapshot, bot: str, names: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """Return the bot's alert that asks for recovery, as Alertmanager holds it; one of these, or any."""
    alerts = (alert for alert in now.alerts if alert["labels"].get("remediation") == "auto")
    of_bot = (alert for alert in alerts if alert["labels"].get("bot") == bot)
    return next((alert for alert in of_bot if not names or alert["labels"]["alertname"] in names), None)


async def has_answered(result: Result, stage: Stage) -> bool:
    """Return whether the bot has answered what was written to it while it was deaf."""
    token = token_of(result.act.bots[0])
    return any(m.token == token and m.at > result.begun for m in stage.stack.telegram.messages)


def is_well(now: Snapshot, bot: str) -> bool:
    state = now.bot(bot)
    return state is not None and state.well


def streaks(now: Snapshot, bots: Iterable[str]) -> int:
    """Return the shortest streak of failed probes among them."""
    return min((state.streak if (state := now.bot(bot)) else 0) for bot in bots)


def seconds_of(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()


def webhook(alert: dict[str, Any]) -> dict[str, Any]:
    """Return what Alertmanager posts for one of its alerts (webhook, version 4)."""
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
