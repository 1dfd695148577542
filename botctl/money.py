"""Costs, advice and budgets as a person reads them. An unknown price is never shown as 0. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from botctl.tables import Row, bullets, clean, table
from botctl.views import View


def usd(value: float | None, digits: int = 2) -> str:
    return "unknown" if value is None else f"${value:,.{digits}f}"


_SUMS: Final = (("usdPerHour", 4), ("spentUsd", 2), ("projectedUsd", 2))


def cost(view: View) -> RenderableType:
    """`GET /cost`."""
    prices = view["prices"]
    known = view["countedSince"] is not None  # before the first count every sum is 0
    sums = [usd(view[key] if known else None, digits) for key, digits in _SUMS]
    head = Text("{} an hour · {} spent in {month} · {} at its end".format(*sums, month=view["month"]))
    source = Text(f"prices: {prices['source']}, {prices['asOf'] or 'of no known date'}", style="dim")
    columns = (
        ("bot", "bot"),
        ("template", "template"),
        ("environment", "environment"),
        ("an hour", lambda row: usd(row["usdPerHour"], 4)),
        ("of which", lambda row: _each(row["components"].items(), 4)),
        ("models", lambda row: _each(((one["model"], one["usd"]) for one in row["models"]), 2)),
        ("this month", lambda row: usd(row["spentUsd"])),
    )
    parts: list[RenderableType] = [head, source, table(columns, view["bots"], empty="no bots yet")]
    if view["unknown"]:
        parts.append(Text("in no sum, because it is unknown:", style="yellow"))
        parts.append(bullets(f"{one['bot']} {one['component']}: {one['why']}" for one in view["unknown"]))
    if view["budgets"]:
        parts.append(budgets(view["budgets"]))
    return Group(*parts)


def _each(sums: Iterable[tuple[str, float | None]], digits: int) -> str:
    return ", ".join(f"{name} {usd(one, digits)}" for name, one in sums)


def recommendations(view: View) -> RenderableType:
    """`GET /recommendations`."""
    parts: list[RenderableType] = []
    for one in view["recommended"]:
        title = Text(clean(one["bot"]), style="bold")
        title.append(f"  {clean(one['current'])} → {clean(one['target'])}", style="not bold")
        title.append(f"  {_saving(one['monthlySavingUsd'])}", style="green")
        parts += [title, Text(f"  why   {_text(one['evidence'])}"), Text(f"  risk  {_text(one['risk'])}")]
        parts += [Text(f"  do    {clean(one['command'] or '-')}", style="bold"), Text()]
    if not parts:
        parts = [Text("nothing to change", style="dim")]
    unsure = [f"{clean(one['bot'])} ({clean(one['kind'])})" for one in view.get("insufficientData", ())]
    for said, names in (
        ("not known well enough", unsure),
        ("too large for any type", [clean(one) for one in view.get("tooLarge", ())]),
    ):
        if names:
            parts.append(Text(f"{said}: {', '.join(names)}", style="dim"))
    return Group(*parts)


def _saving(monthly: float | None) -> str:
    if monthly is None:
        return "saving unknown"
    return f"saves {usd(monthly)} a month" if monthly >= 0 else f"costs {usd(-monthly)} a month more"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{clean(key)} {clean(one)}" for key, one in value.items())
    return "; ".join(map(clean, value)) if isinstance(value, list) else clean(value)


def budgets(found: Sequence[Row]) -> RenderableType:
    columns = (
        ("scope", "scope"),
        ("name", "name"),
        ("a month", lambda row: usd(row["usd"])),
        ("spent", lambda row: usd(row["spentUsd"])),
        ("projected", lambda row: usd(row["projectedUsd"])),
        ("over", lambda row: Text("over", style="bold red") if row["over"] else ""),
        ("refuses deploys", lambda row: "yes" if row["refuse"] else ""),
        ("by", "by"),
        ("why", "reason"),
    )
    return table(columns, found, empty="no budgets: botctl budgets set fleet --usd 500")


def budget(view: View) -> RenderableType:
    if "usd" in view:
        return budgets([view])
    return Text(f"{clean(view['scope'])} {clean(view['name'])} has no budget any more")
