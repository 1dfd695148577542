"""Arguments and options that several commands share, and what a shell completes them with."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from botctl.errors import BotctlError
from botctl.session import session_of

F = TypeVar("F", bound=Callable[..., Any])

COMPLETION_PATIENCE: Final = 2.0  # seconds; a person has pressed Tab
ENVIRONMENTS: Final = ("production", "staging", "development")
DAY: Final = 86400  # seconds
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}


class Duration(click.ParamType[float]):
    """`90s`, `30m`, `1h30m`, `2d`: in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        parts = re.findall(r"(\d+)([smhdw])", str(value))
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is no duration such as 30s, 5m or 1h30m", param, ctx)
        return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


def bots_for(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of bots, from the service; with nothing where it does not answer at once."""
    return [
        CompletionItem(
            labels["bot"], help=f"{labels.get('template', '')} {labels.get('environment', '')}".strip()
        )
        for group in _read(ctx, "/sd", [])
        if (labels := group["labels"])["bot"].startswith(incomplete)
    ]


def runs_for(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ids of runs that have not ended, and names of bots."""
    state = _read(ctx, "/dashboard", {"state": {"deployments": [], "recoveries": []}})["state"]
    runs = [
        CompletionItem(run.get("deploymentId") or run["recoveryId"], help=run["status"])
        for run in [*state["deployments"], *state["recoveries"]]
        if run["finishedAt"] is None
    ]
    matching = [item for item in runs if item.value.startswith(incomplete)]
    return matching + bots_for(ctx, parameter, incomplete)


def _read(ctx: click.Context, path: str, otherwise: Any) -> Any:
    """Return the service's answer, or `otherwise` where there is none in time."""
    try:
        return replace(session_of(ctx).client, patience=COMPLETION_PATIENCE).get(path).json()
    except (BotctlError, KeyError, TypeError):
        return otherwise


bot_argument = click.argument("bot", shell_complete=bots_for)
run_argument = click.argument("run", metavar="RUN|BOT", shell_complete=runs_for)
reason_option = click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit trail.")
needed_reason = click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit trail.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
environment_option = click.option(
    "--environment", "-e", type=click.Choice(ENVIRONMENTS), default="production", show_default=True
)
timeout_option = click.option(
    "--timeout",
    type=Duration(),
    default="30m",
    show_default=True,
    help="Wait so long for the end, no longer.",
)


def waiting(command: F) -> F:
    """Add `--no-wait` and `--timeout` to a command."""
    no_wait = click.option(
        "--wait/--no-wait", default=True, help="Follow it to its end (the default), or not."
    )
    return no_wait(timeout_option(command))


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return `--set probe.port=1234 --set model=x` as nested fields; a value may be JSON."""
    fields: dict[str, Any] = {}
    for pair in pairs:
        path, sign, text = pair.partition("=")
        if not sign or not all(path.split(".")):
            raise click.BadParameter(f"{pair!r} is not FIELD=VALUE", param_hint="--set")
        *parents, last = path.split(".")
        target = fields
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise click.BadParameter(f"{pair!r}: {parent} has a value already", param_hint="--set")
        target[last] = _value(text)
    return fields


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


set_option = click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Set a field of the template for this bot alone.",
)


def without_empty(**values: Any) -> Mapping[str, Any]:
    """Return the fields of a body that have a value."""
    return {name: value for name, value in values.items() if value not in (None, "", (), [], {})}
