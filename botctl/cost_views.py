"""Costs, advice and budgets as a person reads them. An unknown price is never drawn as 0. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from botctl.tables import Row, bullets, clean, table
from botctl.views import View


def usd(value: float | None, digits: int = 2) -> str:
    """Return US dollars with so many decimals; None is unknown."""
    return "unknown" if value is None else f"${value:,.{digits}f}"


_SUMS: Final = (("usdPerHour", 4), ("spentUsd", 2), ("projectedUsd", 2))


def cost(view: View) -> RenderableType:
    """Return `GET /cost`."""
    prices = view["prices"]
    counted = view["countedSince"] is not None  # before the first count every sum is 0
    sums = [usd(view[key] if counted else None, digits) for key, digits in _SUMS]
    head = Text("{} an hour · {} spent in {month} · {} at its end".format(*sums, month=view["month"]))
    source = Text(f"prices: {prices['source']}, {prices['asOf'] or 'of no known date'}", style="dim")
    columns = (
        ("bot", "bot"),
        ("template", "template"),
        ("environment", "environment"),
        ("an hour", lambda row: usd(row["usdPerHour"], 4)),
        ("of which", lambda row: _each(row["components"].items(), 4)),
        ("models", lambda row: _each(((model["model"], model["usd"]) for model in row["models"]), 2)),
        ("this month", lambda row: usd(row["spentUsd"])),
    )
    parts: list[RenderableType] = [head, source, table(columns, view["bots"], empty="no bots yet")]
    if view["unknown"]:
        parts.append(Text("in no sum, because it is unknown:", style="yellow"))
        unknown = (f"{part['bot']} {part['component']}: {part['why']}" for part in view["unknown"])
        parts.append(bullets(unknown))
    if view["budgets"]:
        parts.append(budgets(view["budgets"]))
    return Group(*parts)


def _each(sums: Iterable[tuple[str, float | None]], digits: int) -> str:
    return ", ".join(f"{name} {usd(amount, digits)}" for name, amount in sums)


def recommendations(view: View) -> RenderableType:
    """Return `GET /recommendations`."""
    parts: list[RenderableType] = []
    for advice in view["recommended"]:
        title = Text(clean(advice["bot"]), style="bold")
        title.append(f"  {clean(advice['current'])} → {clean(advice['target'])}", style="not bold")
        title.append(f"  {_saving(advice['monthlySavingUsd'])}", style="green")
        parts += [title, Text(f"  why   {_text(advice['evidence'])}")]
        parts += [Text(f"  risk  {_text(advice['risk'])}")]
        parts += [Text(f"  do    {clean(advice['command'] or '-')}", style="bold"), Text()]
    if not parts:
        parts = [Text("nothing to change", style="dim")]
    unsure = view.get("insufficientData", ())
    for label, names in (
        ("not known well enough", [f"{clean(row['bot'])} ({clean(row['kind'])})" for row in unsure]),
        ("too large for any type", list(map(clean, view.get("tooLarge", ())))),
    ):
        if names:
            parts.append(Text(f"{label}: {', '.join(names)}", style="dim"))
    return Group(*parts)


def _saving(monthly: float | None) -> str:
    if monthly is None:
        return "saving unknown"
    return f"saves {usd(monthly)} a month" if monthly >= 0 else f"costs {usd(-monthly)} a month more"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{clean(key)} {clean(part)}" for key, part in value.items())
    return "; ".join(map(clean, value)) if isinstance(value, list) else clean(value)


def budgets(rows: Sequence[Row]) -> RenderableType:
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
    return table(columns, rows, empty="no budgets: botctl budgets set fleet --usd 500")


def budget(view: View) -> RenderableType:
    if "usd" in view:
        return budgets([view])
    return Text(f"{clean(view['scope'])} {clean(view['name'])} has no budget any more")
