"""Bots: deploy, see, follow, recover, adopt, retire."""

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
    DAY,
    Duration,
    bot_argument,
    bots_for,
    environment_option,
    runs_for,
    set_option,
    settings,
    waiting,
    without_empty,
    yes_option,
)
from botctl.progress import watch as watch_run
from botctl.runs import begin, check_bot, path_of, running
from botctl.session import Command, Session, me, pass_session, secret_in

_FOREVER: Final = 365.0 * DAY
_DM_POLICIES: Final = ("pairing", "allowlist", "open", "disabled")
_FLEET_INTERVAL: Final = 2.0  # seconds between two views of the fleet


@click.command(cls=Command)
@click.argument("bot")
@click.option("--type", "kind", required=True, metavar="TYPE", help="A template, such as support or manager.")
@environment_option
@click.option(
    "--telegram-token-file",
    metavar="FILE",
    help="File with the Telegram token; - is stdin. Without it: asked for.",
)
@click.option(
    "--allow-from", type=int, multiple=True, metavar="ID", help="Telegram id of a person who may write to it."
)
@click.option("--dm-policy", type=click.Choice(_DM_POLICIES), help="What becomes of others who write to it.")
@click.option(
    "--group", "groups", type=int, multiple=True, metavar="ID", help="Telegram id of a group it answers in."
)
@click.option(
    "--fallback",
    "fallbacks",
    multiple=True,
    metavar="MODEL",
    help="A model to ask where the first one fails.",
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
    allow_from: tuple[int, ...],
    dm_policy: str | None,
    groups: tuple[int, ...],
    fallbacks: tuple[str, ...],
    pairs: tuple[str, ...],
    wait: bool,
    timeout: float,
) -> None:
    """Put a new bot on EC2, and follow it until it is healthy.

    Its Telegram token is read from a file, from stdin, or asked for without an echo; never from an argument,
    which is for all to see.
    """
    body: dict[str, Any] = {
        "botName": bot,
        "botType": kind,
        "environment": environment,
        "telegramToken": _telegram_token(telegram_token_file),
    }
    access = {"allowFrom": allow_from, "dmPolicy": dm_policy, "groups": groups, "fallbacks": fallbacks}
    body |= without_empty(overrides=settings(pairs), **access)
    begin(session, "/deploy", body, wait=wait, timeout=timeout)


def _telegram_token(path: str | None) -> str:
    """Read the Telegram token from a file, or ask for it without an echo."""
    if path is not None:
        return secret_in(path, "--telegram-token-file")
    if not sys.stdin.isatty():
        remedy = "name a file with --telegram-token-file, or - for stdin"
        raise BotctlError("the Telegram token is not known and nobody is there to ask", remedy, Exit.usage)
    token: str = click.prompt("Telegram token", hide_input=True, err=True)
    return token.strip()


@click.command(cls=Command)
@click.argument("bot", required=False, shell_complete=bots_for)
@pass_session
def status(session: Session, bot: str | None) -> None:
    """Show the fleet, or one bot.

    Every bot, what is under way and what is firing; or one bot and what was done to it.
    """
    answer = session.client.get("/dashboard")
    if bot is not None:
        check_bot(answer.json(), bot)
    session.answer(answer, lambda view: views.bot(view, bot) if bot else views.fleet(view))


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
        _watch_fleet(session, timeout or _FOREVER)
        return
    path = path_of(running(session, run))
    if session.json:
        for view in follow(session.client, path, timeout=timeout or _FOREVER):
            session.view(view)
        return
    watch_run(session, path, timeout or _FOREVER)


def _watch_fleet(session: Session, timeout: float) -> None:
    """Draw the fleet again and again, for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    if session.json or not session.out.is_terminal:
        raise BotctlError("the live view needs a terminal", "botctl status --json, or name a run", Exit.usage)
    with Live(console=session.out, screen=True, auto_refresh=False) as live:
        while time.monotonic() < deadline:
            live.update(views.fleet(session.client.get("/dashboard").json()), refresh=True)
            time.sleep(_FLEET_INTERVAL)


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
    token = _telegram_token(telegram_token_file) if telegram_token_file else None
    body = {"botName": bot, "botType": kind, "environment": environment, "instanceId": instance, "by": me()}
    body |= without_empty(address=address, telegramToken=token, overrides=settings(pairs))
    session.answer(session.client.post("/bots", body), views.begun)


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
    rest = "a snapshot of its volume is kept" if snapshot else "nothing of it is kept"
    session.confirm(f"Retire {bot}? Its instance is terminated; {rest}.", yes)
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
