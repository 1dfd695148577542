"""What AWS asks for what a bot is made of: a dated table a region. An unknown price is None, never 0."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from templates.instance_types import family_name

SHIPPED: Final = Path(__file__).with_name("prices.yaml")
_USAGE: Final = {
    "instance": "",
    "gp3": "EBS:VolumeUsage.gp3",
    "address": "PublicIPv4:InUseAddress",
    "burst": "CPUCredits:t3",
}


@dataclass(frozen=True, slots=True)
class PriceTable:
    """US dollars. `as_of`: the date that the list itself gives (ISO 8601)."""

    region: str
    as_of: str = ""
    source: str = "no price list of this region is known"
    instance: Mapping[str, float] = field(default_factory=dict)  # an hour, by type
    gp3: float | None = None  # a GiB and month
    address: float | None = None  # a public IPv4 address an hour
    burst: float | None = None  # a vCPU-hour of surplus credits

    @property
    def dated(self) -> float | None:
        """Return `as_of` as Unix seconds; None where it is no date."""
        try:
            return datetime.fromisoformat(self.as_of).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None

    def as_items(self) -> dict[str, Any]:
        """Return what the database has of it besides region, date and source."""
        return {key: value for key, value in asdict(self).items() if key not in ("region", "as_of", "source")}


def credible(value: object) -> float | None:
    """Return a price that is a finite number above 0; else None: a free instance is a fault of the list."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        price = float(value)
    except ValueError:
        return None
    return price if math.isfinite(price) and price > 0 else None


def table(region: str, as_of: str, source: str, items: Mapping[str, Any]) -> PriceTable:
    """Make a table of what was stored or shipped; what makes no sense in it is unknown."""
    instances = {name: credible(price) for name, price in (items.get("instance") or {}).items()}
    return PriceTable(
        region=region,
        as_of=as_of,
        source=source,
        instance={name: price for name, price in instances.items() if price is not None},
        gp3=credible(items.get("gp3")),
        address=credible(items.get("address")),
        burst=credible(items.get("burst")),
    )


@cache
def _shipped() -> Mapping[str, Any]:
    data: Mapping[str, Any] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return data


def shipped(region: str) -> PriceTable:
    """Return the prices that came with this version; none where the region is not in it."""
    data = _shipped()
    if region not in data["regions"]:
        return PriceTable(region)
    items = {**data, **data["regions"][region]}  # a region may have a date and a source of its own
    items["instance"] = {
        f"{family}.{size}": price
        for family, sizes in items["instance"].items()
        for size, price in sizes.items()
    }
    return table(region, items["as_of"], items["source"], items)


def shipped_regions() -> list[str]:
    """Return the regions whose prices came with this version, sorted."""
    return sorted(_shipped()["regions"])


def newer(fetched: PriceTable, before: PriceTable) -> PriceTable:
    """Return the fetched prices; what they lack keeps its last good price, and the source says so."""
    single = {name: getattr(fetched, name) for name in ("gp3", "address", "burst")}
    missing = [name for name, price in single.items() if price is None and getattr(before, name) is not None]
    families = {family_name(name) for name in fetched.instance}
    older = [name for name in before.instance if name not in fetched.instance]
    missing = sorted([*missing, *(name for name in older if family_name(name) in families)])
    missing += ["other families"] if any(family_name(name) not in families for name in older) else []
    source = fetched.source
    if missing:
        source += f"; {', '.join(missing)}: {before.source} of {before.as_of}"
    return PriceTable(
        region=fetched.region,
        as_of=fetched.as_of,
        source=source[:255],
        instance={**before.instance, **fetched.instance},
        **{name: getattr(before, name) if price is None else price for name, price in single.items()},
    )


# the answers of the pricing API (GetProducts, format aws_v1): one JSON text a product


def on_demand(product: str) -> tuple[Mapping[str, str], float | None, str]:
    """Return a product's attributes, its price in US dollars in the long run, and the date of its list.

    ({}, None, "") where it makes no sense.
    """
    try:
        document = json.loads(product)
        attributes = document["product"]["attributes"]
        (offer,) = document["terms"]["OnDemand"].values()
        # Some are free up to an amount: the dimension without an end is what is paid in the long run.
        (dimension,) = (
            dimension
            for dimension in offer["priceDimensions"].values()
            if dimension.get("endRange", "Inf") == "Inf"
        )
        return (
            attributes,
            credible(dimension["pricePerUnit"].get("USD")),
            str(document["publicationDate"])[:10],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, None, ""


def from_products(region: str, products: Mapping[str, Iterable[str]]) -> PriceTable:
    """Make a table of these products. `products`: instance, gp3, address, burst → GetProducts' list."""
    items: dict[str, Any] = {"instance": {}}
    dates = set[str]()
    for what, texts in products.items():
        for text in texts:
            attributes, price, date = on_demand(text)
            if price is None or not attributes.get("usagetype", "").endswith(_USAGE[what]):
                continue
            dates.add(date)
            if what == "instance":
                items["instance"][attributes.get("instanceType", "")] = price
            else:
                items[what] = price
    return table(region, max(dates, default=""), "AWS pricing API", items)
