"""The API's answers as a person reads them. Pure: JSON in, something to print out."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from botctl.tables import Row, bullets, cell, clean, lasted, moment, record, table

View = Mapping[str, Any]

# the fleet


def fleet(view: View) -> RenderableType:
    """Return the fleet, from `GET /dashboard`."""
    summary, state = view["summary"], view["state"]
    counts = ("healthy", "degraded", "critical", "unknown", "quarantined")
    total = "1 bot" if summary["bots"] == 1 else f"{summary['bots']} bots"
    line = Text(" · ".join([total, *(f"{summary[name]} {name}" for name in counts if summary.get(name))]))
    parts: list[RenderableType] = [line, storm(summary.get("storm") or {}), bots(view["registry"])]
    active = [row for row in _runs(state) if row["finishedAt"] is None]
    if active:
        parts.append(table(_RUN, active, empty="", title="under way"))
    if view.get("alerts"):
        columns = (("alert", "name"), ("bot", "bot"), ("since", "startsAt"), ("ignored", "ignored"))
        parts.append(table(columns, view["alerts"], empty="", title="firing"))
    return Group(*(part for part in parts if part))


def storm(view: View) -> Text:
    if not view.get("active"):
        return Text()
    return Text(
        f"storm: {clean(view.get('reason') or 'nothing is recovered automatically')}", style="bold red"
    )


def bots(registry: Sequence[Row]) -> RenderableType:
    columns = (
        ("bot", "bot"),
        ("template", "template"),
        ("environment", "environment"),
        ("state", "state"),
        ("score", "health_score"),
        ("version", "version"),
        ("instance", "instance_id"),
        ("address", "address"),
    )
    return table(columns, registry, empty="no bots yet: botctl deploy NAME --type support")


def bot(view: View, name: str) -> RenderableType:
    """Return one bot of `GET /dashboard`, and what was done to it lately."""
    row = next(row for row in view["registry"] if row["bot"] == name)
    mine = [run for run in _runs(view["state"]) if run["bot"] == name][:10]
    facts_of_bot = record((key.replace("_", " "), value) for key, value in row.items())
    return Group(facts_of_bot, Text(), table(_RUN, mine, empty="nothing was done to it lately"))


def _runs(state: View) -> list[Row]:
    """Return deployments and recoveries alike, newest first."""
    runs = [
        {**run, "id": run["deploymentId"], "bot": run["botName"], "kind": run.get("kind", "deploy")}
        for run in state["deployments"]
    ]
    runs += [{**run, "id": run["recoveryId"], "bot": run["botId"]} for run in state["recoveries"]]
    return sorted(runs, key=lambda run: str(run["startedAt"]), reverse=True)


_RUN = (
    ("run", "id"),
    ("kind", "kind"),
    ("bot", "bot"),
    ("status", "status"),
    ("tier", "tier"),
    ("since", "startedAt"),
    ("took", lasted),
    ("why", "reason"),
)


def facts(view: Any) -> RenderableType:
    """Return an answer that has no shape of its own here: all its fields."""
    if isinstance(view, list):
        return table(_columns(view), view, empty="nothing")
    plain = {key: value for key, value in view.items() if key not in ("diff", "warnings", "config")}
    rows = {key: value for key, value in plain.items() if _are_rows(value)}
    parts: list[RenderableType] = [record((key, value) for key, value in plain.items() if key not in rows)]
    parts += [table(_columns(listed), listed, empty="", title=name) for name, listed in rows.items()]
    if view.get("diff"):
        parts += [Text(), changes(view["diff"])]
    return Group(*parts, *warnings(view))


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _columns(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(key, key) for key in dict.fromkeys(key for row in rows for key in row)]


def asking(bot: str) -> Text:
    return Text(f"asking the instance of {clean(bot)}, which takes 5 to 20 s")


def pairing(view: View) -> RenderableType:
    """Return `GET /bots/{bot}/pairing`."""
    columns = (("code", "code"), ("telegram id", "sender"), ("name", "name"), ("asked", "askedAt"))
    policy = view["dmPolicy"]
    if policy == "pairing":
        empty = f"nobody waits: who writes to {clean(view['bot'])} gets a code, and is listed for an hour"
    else:
        empty = f"nobody waits: with dm_policy {clean(policy)} nobody gets a code"
    return table(columns, view["requests"], empty=empty)


def paired(view: View) -> RenderableType:
    """Return the answer to an approval."""
    head = Text(f"{clean(view['sender'])} may talk to {clean(view['bot'])}", style="green")
    return Group(head, Text(f"a redeploy forgets it; to keep it: {clean(view['keep'])}", style="dim"))


# runs


def run(view: View) -> RenderableType:
    """Return a deployment or a recovery: its end or where it is, its steps, and the gates that hold it."""
    steps = [
        *view.get("steps", []),
        *({**tier, "name": tier["tier"], "status": tier["outcome"]} for tier in view.get("attempts", [])),
    ]
    columns = (("step", "name"), ("status", "status"), ("took", lasted), ("detail", "detail"))
    parts: list[RenderableType] = [headline(view), table(columns, steps, empty="no step yet")]
    closed = [gate for gate in view.get("gates", []) if gate["verdict"] != "open"]
    if view["finishedAt"] is None and closed:
        columns_of_gates = (("gate", "gate"), ("tier", "tier"), ("at", "at"), ("why", "why"))
        parts.append(table(columns_of_gates, closed[-3:], empty="", title="held by"))
    return Group(*parts, *warnings(view))


def begun(view: View) -> RenderableType:
    """Return the answer to a call that begins a run."""
    return run(view) if "steps" in view else facts(view)


def headline(view: View) -> Text:
    """Return a run in one line: `my-bot deployed: i-0123 is healthy  (dep-…)`."""
    name = view.get("botName") or view.get("botId") or view.get("rolloutId") or ""
    run_id = view.get("deploymentId") or view.get("recoveryId") or ""
    line = Text.assemble((clean(name), "bold"), " ", cell(view["status"]))
    if view.get("reason"):
        line.append(f": {clean(view['reason'])}")
    return line.append(f"  {clean(run_id)}", style="dim") if run_id else line


def warnings(view: View) -> list[RenderableType]:
    return [Text(f"⚠ {clean(warning)}", style="yellow") for warning in view.get("warnings") or []]


def rollout(view: View) -> RenderableType:
    columns = (("bot", "bot"), ("status", "status"), ("deployment", "deploymentId"), ("why", "reason"))
    return Group(headline(view), table(columns, view.get("bots") or [], empty="no bot yet"))


def rollouts(views: Sequence[Row]) -> RenderableType:
    columns = (
        ("rollout", "rolloutId"),
        ("status", "status"),
        ("template", "template"),
        ("environment", "environment"),
        ("percent", "percent"),
        ("began", "startedAt"),
        ("took", lasted),
        ("why", "reason"),
    )
    return table(columns, views, empty="no rollouts yet")


# configurations


def versions(views: Sequence[Row]) -> RenderableType:
    columns = (
        ("version", "version"),
        ("at", "at"),
        ("live", lambda row: "live" if row.get("live") else ""),
        ("by", "by"),
        ("origin", "origin"),
        ("why", "reason"),
        ("changed", lambda row: [change["path"] for change in row.get("diff") or []]),
        ("sha", lambda row: str(row.get("configSha", ""))[:12]),
    )
    return table(columns, views, empty="no versions yet")


def version(view: View) -> RenderableType:
    head = record((key, value) for key, value in view.items() if key not in ("config", "diff", "warnings"))
    settings = record(sorted((view.get("config") or {}).items()))
    return Group(head, Text(), settings, *warnings(view), Text(), changes(view.get("diff") or []))


def diff(view: View) -> RenderableType:
    return Group(Text(f"version {view['from']} → {view['to']}", style="dim"), changes(view["diff"]))


def changes(rows: Sequence[Row]) -> RenderableType:
    """Return the lines of a diff: the old value in red, the new one in green."""
    if not rows:
        return Text("no difference", style="dim")
    lines = Text()
    for change in rows:
        lines.append(f"{clean(change['path'])}\n", style="bold")
        for mark, style, value in (("-", "red", change.get("from")), ("+", "green", change.get("to"))):
            if value is not None:
                lines.append(f"  {mark} {cell(value).plain}\n", style=style)
    lines.rstrip()
    return lines


def drift(view: View) -> RenderableType:
    """Return `GET /drift`."""
    columns = (("bot", "bot"), *_DIFFERENCE, ("since", "since"))
    footer = f"as of {moment(view['lookedAt'])}" if view["lookedAt"] else "the observer has not looked yet"
    parts: list[RenderableType] = [table(columns, drifted(view), empty="everything is as it was declared")]
    if view["problem"]:
        parts.insert(0, Text(f"⚠ {clean(view['problem'])}", style="yellow"))
    return Group(*parts, Text(footer, style="dim"))


def drifted(view: View) -> list[Row]:
    return [{"bot": bot["bot"], **difference} for bot in view["bots"] for difference in bot["differences"]]


_DIFFERENCE = (
    ("field", "field"),
    ("stored", "stored"),
    ("real", "real"),
    ("fix", "fix"),
    ("disruptive", "disruptive"),
)


def plan(view: View) -> RenderableType:
    """Return what `POST /bots/{bot}/reconcile` plans or has done."""
    columns = (*_DIFFERENCE, ("outcome", "outcome"))
    rows = table(columns, view["plan"], empty="nothing to do: it is as it was declared")
    hint = "" if view["applied"] or not view["plan"] else "nothing was done; --apply does it"
    return Group(rows, Text(hint, style="dim"))


# the trail, holds, orphans


def story(view: View) -> RenderableType:
    lines = [Text.assemble((moment(line["at"]), "dim"), "  ", clean(line["what"])) for line in view["story"]]
    head = Text.assemble((clean(view["bot"]), "bold"), " ", cell(view["state"]))
    return Group(
        head,
        Text(),
        *(lines or [Text("nothing ever happened")]),
        Text(),
        Text("next", style="bold"),
        bullets(view["next"]),
    )


def audit(entries: Sequence[Row]) -> RenderableType:
    columns = (
        ("id", "id"),
        ("at", "at"),
        ("actor", "actor"),
        ("event", "event"),
        ("bot", "bot"),
        ("run", "runId"),
        ("detail", "detail"),
    )
    return table(columns, entries, empty="no entries")


def holds(rows: Sequence[Row]) -> RenderableType:
    columns = (
        ("id", "id"),
        ("kind", "kind"),
        ("scope", "scope"),
        ("name", "name"),
        ("until", "endsAt"),
        ("by", "by"),
        ("why", "reason"),
    )
    return table(columns, rows, empty="nothing is paused")


def orphans(rows: Sequence[Row]) -> RenderableType:
    columns = (
        ("kind", "kind"),
        ("id", "id"),
        ("state", "state"),
        ("bot", "bot"),
        ("deployment", "deployment"),
        ("since", "since"),
        ("reapable from", "reapableFrom"),
    )
    return table(columns, rows, empty="no orphans: everything of ours belongs to a bot")


def reaped(view: View) -> RenderableType:
    columns = (("kind", "kind"), ("id", "id"), ("bot", "bot"), ("verdict", "verdict"), ("why", "why"))
    hint = "" if view["applied"] else "nothing was done; --apply does it"
    return Group(table(columns, view["plan"], empty="nothing"), Text(hint, style="dim"))
