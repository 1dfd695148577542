"""Runs as several commands begin, name and follow them."""

import re
from typing import Any, Final

from botctl import views
from botctl.client import segment
from botctl.errors import BotctlError, Exit
from botctl.progress import watch
from botctl.session import Session

_RUN_ID: Final = re.compile(r"(?P<kind>[a-z]{2,8})-[0-9a-f]{8,}")


def begin(
    session: Session, path: str, body: dict[str, Any], *, wait: bool, timeout: float, method: str = "POST"
) -> None:
    """Begin a run by a call, and follow it to its end unless it is not waited for."""
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
    watch(session, path_of(run_id), timeout)


def path_of(run_id: str) -> str:
    """Return the path at which the API has the run."""
    kinds = {"rec": "recover", "rol": "rollouts", "rollout": "rollouts"}
    return f"/{kinds.get(run_id.partition('-')[0], 'deploy')}/{segment(run_id)}"


def running(session: Session, run: str) -> str:
    """Return the id itself, or the id of what is under way for the bot of that name."""
    if _RUN_ID.fullmatch(run):
        return run
    view = session.client.get("/dashboard").json()
    check_bot(view, run)
    for active in [*view["state"]["deployments"], *view["state"]["recoveries"]]:
        if run in (active.get("botName"), active.get("botId")) and active["finishedAt"] is None:
            return str(active.get("deploymentId") or active["recoveryId"])
    raise BotctlError(f"nothing is under way for {run}", f"botctl explain {run} says what was", Exit.unknown)


def check_bot(view: views.View, bot: str) -> None:
    """End botctl where the fleet (`GET /dashboard`) has no such bot."""
    if all(row["bot"] != bot for row in view["registry"]):
        raise BotctlError(f"there is no bot {bot!r}", "botctl status lists them", Exit.unknown)
