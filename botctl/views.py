"""The API's answers as a person reads them. Pure: JSON in, something to print out."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from botctl.tables import Row, bullets, cell, clean, lasted, moment, record, table

View = Mapping[str, Any]

# the fleet


def fleet(view: View) -> RenderableType:
    """`GET /dashboard`."""
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
    """One bot of `GET /dashboard`, and what was done to it lately."""
    row = next(row for row in view["registry"] if row["bot"] == name)
    mine = [run for run in _runs(view["state"]) if run["bot"] == name][:10]
    told = record((key.replace("_", " "), value) for key, value in row.items())
    return Group(told, Text(), table(_RUN, mine, empty="nothing was done to it lately"))


def _runs(state: View) -> list[Row]:
    """Deployments and recoveries alike, newest first."""
    found = [
        {**run, "id": run["deploymentId"], "bot": run["botName"], "kind": run.get("kind", "deploy")}
        for run in state["deployments"]
    ]
    found += [{**run, "id": run["recoveryId"], "bot": run["botId"]} for run in state["recoveries"]]
    return sorted(found, key=lambda run: str(run["startedAt"]), reverse=True)


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
    """An answer without a shape of its own here: what it says, whatever that is."""
    if isinstance(view, list):
        return table(_columns(view), view, empty="nothing")
    plain = {key: value for key, value in view.items() if key not in ("diff", "warnings", "config")}
    rows = {key: value for key, value in plain.items() if _are_rows(value)}
    parts: list[RenderableType] = [record((key, value) for key, value in plain.items() if key not in rows)]
    parts += [table(_columns(found), found, empty="", title=name) for name, found in rows.items()]
    if view.get("diff"):
        parts += [Text(), changes(view["diff"])]
    return Group(*parts, *warnings(view))


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _columns(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(key, key) for key in dict.fromkeys(key for row in rows for key in row)]


# runs


def run(view: View) -> RenderableType:
    """A deployment or a recovery."""
    steps = [
        *view.get("steps", []),
        *({**one, "name": one["tier"], "status": one["outcome"]} for one in view.get("attempts", [])),
    ]
    columns = (("step", "name"), ("status", "status"), ("took", lasted), ("detail", "detail"))
    parts: list[RenderableType] = [headline(view), table(columns, steps, empty="no step yet")]
    shut = [gate for gate in view.get("gates", []) if gate["verdict"] != "open"]
    if view["finishedAt"] is None and shut:
        columns_of_gates = (("gate", "gate"), ("tier", "tier"), ("at", "at"), ("why", "why"))
        parts.append(table(columns_of_gates, shut[-3:], empty="", title="held by"))
    return Group(*parts, *warnings(view))


def begun(view: View) -> RenderableType:
    """The answer to what begins a run, whatever else it says."""
    return run(view) if "steps" in view else facts(view)


def headline(view: View) -> Text:
    """`my-bot deployed: i-0123 is healthy  (dep-…)`."""
    name = view.get("botName") or view.get("botId") or view.get("rolloutId") or ""
    run_id = view.get("deploymentId") or view.get("recoveryId") or ""
    line = Text.assemble((clean(name), "bold"), " ", cell(view["status"]))
    if view.get("reason"):
        line.append(f": {clean(view['reason'])}")
    return line.append(f"  {clean(run_id)}", style="dim") if run_id else line


def warnings(view: View) -> list[RenderableType]:
    found = view.get("warnings") or []
    return [Text(f"⚠ {clean(one)}", style="yellow") for one in found]


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
    told = record((key, value) for key, value in view.items() if key not in ("config", "diff", "warnings"))
    settings = record(sorted((view.get("config") or {}).items()))
    return Group(told, Text(), settings, *warnings(view), Text(), changes(view.get("diff") or []))


def diff(view: View) -> RenderableType:
    return Group(Text(f"version {view['from']} → {view['to']}", style="dim"), changes(view["diff"]))


def changes(found: Sequence[Row]) -> RenderableType:
    """Lines of a diff: what was there in red, what is there in green."""
    if not found:
        return Text("no difference", style="dim")
    lines = Text()
    for change in found:
        lines.append(f"{clean(change['path'])}\n", style="bold")
        for mark, style, value in (("-", "red", change.get("from")), ("+", "green", change.get("to"))):
            if value is not None:
                lines.append(f"  {mark} {cell(value).plain}\n", style=style)
    lines.rstrip()
    return lines


def drift(view: View) -> RenderableType:
    """`GET /drift`."""
    columns = (("bot", "bot"), *_DIFFERENCE, ("since", "since"))
    looked = f"as of {moment(view['lookedAt'])}" if view["lookedAt"] else "the observer has not looked yet"
    parts: list[RenderableType] = [table(columns, drifted(view), empty="everything is as it was declared")]
    if view["problem"]:
        parts.insert(0, Text(f"⚠ {clean(view['problem'])}", style="yellow"))
    return Group(*parts, Text(looked, style="dim"))


def drifted(view: View) -> list[Row]:
    return [{"bot": one["bot"], **found} for one in view["bots"] for found in one["differences"]]


_DIFFERENCE = (
    ("field", "field"),
    ("stored", "stored"),
    ("real", "real"),
    ("fix", "fix"),
    ("disruptive", "disruptive"),
)


def plan(view: View) -> RenderableType:
    """`POST /bots/{bot}/reconcile`."""
    columns = (*_DIFFERENCE, ("outcome", "outcome"))
    done = table(columns, view["plan"], empty="nothing to do: it is as it was declared")
    hint = "" if view["applied"] or not view["plan"] else "nothing was done; --apply does it"
    return Group(done, Text(hint, style="dim"))


# books


def story(view: View) -> RenderableType:
    told = [Text.assemble((moment(line["at"]), "dim"), "  ", clean(line["what"])) for line in view["story"]]
    head = Text.assemble((clean(view["bot"]), "bold"), " ", cell(view["state"]))
    return Group(
        head,
        Text(),
        *(told or [Text("nothing ever happened")]),
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


def holds(found: Sequence[Row]) -> RenderableType:
    columns = (
        ("id", "id"),
        ("kind", "kind"),
        ("scope", "scope"),
        ("name", "name"),
        ("until", "endsAt"),
        ("by", "by"),
        ("why", "reason"),
    )
    return table(columns, found, empty="nothing is paused")


def orphans(found: Sequence[Row]) -> RenderableType:
    columns = (
        ("kind", "kind"),
        ("id", "id"),
        ("state", "state"),
        ("bot", "bot"),
        ("deployment", "deployment"),
        ("since", "since"),
        ("reapable from", "reapableFrom"),
    )
    return table(columns, found, empty="no orphans: everything of ours belongs to a bot")


def reaped(view: View) -> RenderableType:
    columns = (("kind", "kind"), ("id", "id"), ("bot", "bot"), ("verdict", "verdict"), ("why", "why"))
    hint = "" if view["applied"] else "nothing was done; --apply does it"
    return Group(table(columns, view["plan"], empty="nothing"), Text(hint, style="dim"))
