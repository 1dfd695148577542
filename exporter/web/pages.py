"""Pages for people: the index of bots, and the report of a probe. Text in, text out."""

import html
import time
from collections.abc import Collection
from heapq import nsmallest
from urllib.parse import quote

from exporter.fleet.fleet import Bot
from exporter.history import past_probes
from exporter.observation import Observation
from exporter.probing.probe import Steps
from exporter.score import band
from exporter.targets import NO_MESH

_MAX_ROWS = 100  # bots on a page: the worst of those that match, so that any fleet makes a small page

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;"
    "border-bottom:1px solid #ddd}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".critical{color:#b00020;font-weight:600}.degraded{color:#9a5b00}.minor{color:#6b6500}"
    ".operational{color:#186a3b}input{font:inherit;padding:.3rem .5rem}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}th,td{border-color:#333}"
    "a{color:#8ab4f8}.critical{color:#ff6b7d}.degraded{color:#e8a13c}.minor{color:#d6cc4a}"
    ".operational{color:#5fce8c}}"
)


def index(bots: Collection[Bot], search: str, version: str) -> str:
    """Render the bots whose name, template or reason has `search` in it, the worst first."""
    term = search.strip().lower()
    matching = [bot for bot in bots if not term or term in _searchable(bot)]
    worst = nsmallest(_MAX_ROWS, matching, key=lambda bot: (bot.state.score is None, bot.state.score or 0.0))
    rows = "".join(map(_row, worst))
    count = f"{len(worst)} of {len(matching)}" if len(matching) > len(worst) else f"{len(matching)}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Bot exporter</title><style>{_STYLE}</style></head>
<body><h1>Bot exporter</h1>
<p>Version {html.escape(version)}, watching {len(bots)} bots.
<a href="/metrics">/metrics</a> · <a href="/-/healthy">/-/healthy</a> · <a href="/-/ready">/-/ready</a></p>
<form><label>Search <input name="search" value="{html.escape(search)}" autofocus
placeholder="name, template, reason"></label> <button>Find</button> Showing {count}, the worst first.</form>
<table><thead><tr><th>Bot</th><th>Template</th><th class="n">Score</th>
<th>Band</th><th class="n">Streak</th><th>/health</th><th>/mesh</th></tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""


def report(bot: Bot, observation: Observation, steps: Steps, series: str) -> str:
    """Render a probe for a person: its steps and times, the score, earlier probes and the series."""
    points, total = observation.score, observation.score.total
    has_mesh = bot.target.mesh_path != NO_MESH
    lines = [
        f"bot {bot.target.bot} at {bot.target.address}, probed {_clock(observation.result.at)}, not counted",
        "",
        *(f"{seconds * 1000:10.3f} ms  {text}" for seconds, text in steps.lines),
        "",
        f"score {total:g}: health {points.health:g}, mesh {points.mesh:g}, "
        f"latency {points.latency:g}, streak {points.streak:g} "
        f"({observation.state.streak} consecutive failures)",
        "",
        "last probes, failures kept longer:" if bot.history else "not yet probed in its turn",
        *(
            f"  {_clock(past.at)}  /health {past.health or 'ok'} {past.health_seconds * 1000:.1f} ms"
            + (f"  /mesh {past.mesh or 'ok'} {past.mesh_seconds * 1000:.1f} ms" if has_mesh else "")
            for past in past_probes(bot.history)
        ),
        "",
        series,
    ]
    return "\n".join(lines)


def _searchable(bot: Bot) -> str:
    target, state = bot.target, bot.state
    return f"{target.bot} {target.template} {state.health or ''} {state.mesh or ''}".lower()


def _row(bot: Bot) -> str:
    name, state = bot.target.bot, bot.state
    if state.score is None:
        score, kind, health, mesh = "", "", "not yet probed", ""
    else:
        score, kind = f"{state.score:g}", band(state.score)
        has_mesh = bot.target.mesh_path != NO_MESH
        health, mesh = str(state.health or "ok"), str(state.mesh or "ok") if has_mesh else NO_MESH
    return (
        f'<tr><td><a href="/probe?bot={quote(name)}&amp;debug=true">{html.escape(name)}</a></td>'
        f'<td>{html.escape(bot.target.template)}</td><td class="n">{score}</td>'
        f'<td class="{kind}">{kind}</td><td class="n">{state.streak}</td>'
        f"<td>{health}</td><td>{mesh}</td></tr>"
    )


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
