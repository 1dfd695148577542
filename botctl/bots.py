"""Bots: deploy, see, follow, recover, adopt, retire."""

import re
import sys
import time
from typing import Any, Final
from urllib.parse import urlencode

import click
from rich.live import Live

from botctl import views
from botctl.client import segment
from botctl.errors import BotctlError, Exit
from botctl.follow import follow
from botctl.options import (
    Duration,
    bot_argument,
    bots_for,
    environment_option,
    given,
    runs_for,
    set_option,
    settings,
    waiting,
    yes_option,
)
from botctl.progress import watch as watch_run
from botctl.session import Command, Session, me, pass_session, secret_in

_RUN_ID: Final = re.compile(r"(?P<kind>[a-z]{2,8})-[0-9a-f]{8,}")
_FOREVER: Final = 365 * 86400.0
_LOOK_EVERY: Final = 2.0  # seconds between two looks at the fleet


@click.command(cls=Command)
@click.argument("bot")
@click.option("--type", "kind", required=True, metavar="TYPE", help="A template, such as support or manager.")
@environment_option
@click.option(
    "--telegram-token-file",
    metavar="FILE",
    help="File with the Telegram token; - is stdin. Without it: asked for.",
)
@set_option
@waiting
@pass_session
def deploy(
    session: Session,
    bot: str,
    kind: str,
    environment: str,
    telegram_token_file: str | None,
    pairs: tuple[str, ...],
    wait: bool,
    timeout: float,
) -> None:
    """Put a new bot on EC2, and follow it until it is healthy.

    Its Telegram token is read from a file, from stdin, or asked for without an echo; never from an argument,
    which is for all to see.
    """
    body = {
        "botName": bot,
        "botType": kind,
        "environment": environment,
        "telegramToken": _telegram(telegram_token_file),
    }
    begin(session, "/deploy", {**body, **given(overrides=settings(pairs))}, wait=wait, timeout=timeout)


def _telegram(path: str | None) -> str:
    if path is not None:
        return secret_in(path, "--telegram-token-file")
    if not sys.stdin.isatty():
        remedy = "name a file with --telegram-token-file, or - for stdin"
        raise BotctlError("the Telegram token is not known and nobody is there to ask", remedy, Exit.usage)
    token: str = click.prompt("Telegram token", hide_input=True, err=True)
    return token.strip()


def begin(
    session: Session, path: str, body: dict[str, Any], *, wait: bool, timeout: float, method: str = "POST"
) -> None:
    """Ask for a run, and follow it."""
    answer = session.client.call(method, path, body if method == "POST" else None)
    view = answer.json()
    if not wait:
        session.answer(answer, views.begun)
        return
    for warning in views.warnings(view):
        session.err.print(warning)
    run_id = view.get("deploymentId") or view.get("recoveryId") or view.get("rolloutId")
    if run_id is None:  # there was nothing to begin
        session.answer(answer, views.facts)
        return
    watch_run(session, path_of(run_id), timeout)


def path_of(run_id: str) -> str:
    kinds = {"rec": "recover", "rol": "rollouts", "rollout": "rollouts"}
    return f"/{kinds.get(run_id.partition('-')[0], 'deploy')}/{segment(run_id)}"


@click.command(cls=Command)
@click.argument("bot", required=False, shell_complete=bots_for)
@pass_session
def status(session: Session, bot: str | None) -> None:
    """Show the fleet, or one bot.

    Every bot, what is under way and what is firing; or one bot and what was done to it.
    """
    answer = session.client.get("/dashboard")
    if bot is not None:
        _known(answer.json(), bot)
    session.answer(answer, lambda view: views.bot(view, bot) if bot else views.fleet(view))


def _known(view: views.View, bot: str) -> None:
    if all(row["bot"] != bot for row in view["registry"]):
        raise BotctlError(f"there is no bot {bot!r}", "botctl status lists them", Exit.unknown)


@click.command(cls=Command)
@click.argument("run", metavar="[RUN|BOT]", required=False, shell_complete=runs_for)
@click.option("--timeout", type=Duration(), default=None, help="Not for longer.  [default: to the end]")
@pass_session
def watch(session: Session, run: str | None, timeout: float | None) -> None:
    """Follow a run, a bot or the fleet.

    A run to its end, by its id or the name of its bot. Without either: the fleet, live.

    With --json each view is a line.
    """
    if run is None:
        _fleet(session, timeout or _FOREVER)
        return
    path = path_of(running(session, run))
    if session.json:
        for view in follow(session.client, path, timeout=timeout or _FOREVER):
            session.view(view)
        return
    watch_run(session, path, timeout or _FOREVER)


def running(session: Session, run: str) -> str:
    """The id itself, or the id of what is under way for the bot of that name."""
    if _RUN_ID.fullmatch(run):
        return run
    view = session.client.get("/dashboard").json()
    _known(view, run)
    for one in [*view["state"]["deployments"], *view["state"]["recoveries"]]:
        if run in (one.get("botName"), one.get("botId")) and one["finishedAt"] is None:
            return str(one.get("deploymentId") or one["recoveryId"])
    raise BotctlError(f"nothing is under way for {run}", f"botctl explain {run} says what was", Exit.unknown)


def _fleet(session: Session, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    if session.json or not session.out.is_terminal:
        raise BotctlError("the live view needs a terminal", "botctl status --json, or name a run", Exit.usage)
    with Live(console=session.out, screen=True, auto_refresh=False) as live:
        while time.monotonic() < deadline:
            live.update(views.fleet(session.client.get("/dashboard").json()), refresh=True)
            time.sleep(_LOOK_EVERY)


@click.command(cls=Command)
@bot_argument
@click.option(
    "--method",
    type=click.Choice(("restart", "reboot", "redeploy")),
    default="restart",
    show_default=True,
    help="The tier to begin at; harder ones follow if it does not cure.",
)
@yes_option
@waiting
@pass_session
def recover(session: Session, bot: str, method: str, yes: bool, wait: bool, timeout: float) -> None:
    """Bring a bot back now.

    By restart, reboot, redeploy. It asks before it begins with more than a restart.
    """
    if method != "restart":
        session.confirm(f"{method} {bot}?", yes)
    begin(session, f"/recover/{segment(bot)}", {"method": method}, wait=wait, timeout=timeout)


@click.command(cls=Command)
@bot_argument
@pass_session
def explain(session: Session, bot: str) -> None:
    """Why a bot is as it is, and what is next.

    What came in, what each gate said, what was done and seen.
    """
    session.answer(session.client.get(f"/bots/{segment(bot)}/explain"), views.story)


@click.command(cls=Command)
@bot_argument
@click.argument("instance", metavar="INSTANCE_ID")
@click.option("--type", "kind", required=True, metavar="TYPE", help="A template, such as support or manager.")
@environment_option
@click.option("--address", metavar="HOST[:PORT]", help="Where it answers, if not at the instance's own.")
@click.option(
    "--telegram-token-file", metavar="FILE", help="File with its Telegram token, for redeploys; - is stdin."
)
@set_option
@pass_session
def adopt(
    session: Session,
    bot: str,
    instance: str,
    kind: str,
    environment: str,
    address: str | None,
    telegram_token_file: str | None,
    pairs: tuple[str, ...],
) -> None:
    """Take in an instance that runs already.

    It is tagged and registered, not changed.
    """
    token = _telegram(telegram_token_file) if telegram_token_file else None
    wish = {"botName": bot, "botType": kind, "environment": environment, "instanceId": instance, "by": me()}
    wish |= given(address=address, telegramToken=token, overrides=settings(pairs))
    session.answer(session.client.post("/bots", wish), views.begun)


@click.command(cls=Command)
@bot_argument
@click.option(
    "--snapshot/--no-snapshot", default=True, show_default=True, help="Keep a last snapshot of its volume."
)
@yes_option
@waiting
@pass_session
def retire(session: Session, bot: str, snapshot: bool, yes: bool, wait: bool, timeout: float) -> None:
    """Stop a bot for good.

    Its instance is terminated and its name is free again.
    """
    kept = "a snapshot of its volume is kept" if snapshot else "nothing of it is kept"
    session.confirm(f"Retire {bot}? Its instance is terminated; {kept}.", yes)
    path = f"/bots/{segment(bot)}?{urlencode({'snapshot': str(snapshot).lower(), 'by': me()})}"
    begin(session, path, {}, wait=wait, timeout=timeout, method="DELETE")


@click.command(cls=Command)
@bot_argument
@pass_session
def release(session: Session, bot: str) -> None:
    """End a bot's quarantine.

    It is recovered automatically again.
    """
    session.answer(session.client.call("DELETE", f"/bots/{segment(bot)}/quarantine"), views.facts)


COMMANDS: Final = (deploy, status, watch, recover, explain, adopt, retire, release)
