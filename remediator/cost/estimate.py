"""What a bot costs an hour, by component, and what was spent. Pure. Unknown is None, and never 0."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from remediator.cost.price_table import PriceTable
from templates.instance_types import family_name

HOURS_A_MONTH: Final = 730.0  # as AWS reckons a month where it names one price for it
Component = Literal["instance", "volume", "address", "burst"]
REFRESH: Final = "set BOT_REMEDIATOR_PRICES_REFRESH=true to ask AWS for it"
BURST_FAMILIES: Final = ("t2", "t3", "t3a")  # whose surplus credits have the one price of the table
COMPONENTS: Final[tuple[Component, ...]] = ("instance", "volume", "address", "burst")


@dataclass(frozen=True, slots=True)
class BillableParts:
    """The parts of a bot that AWS bills. None: not known."""

    instance_type: str
    volume_gib: float
    volumes: int = 1  # two while its predecessor is kept on standby
    addresses: int | None = 0  # public IPv4 addresses, Elastic ones too
    surplus_vcpus: float | None = 0.0  # CPU beyond what credits pay for; 0 with standard credits
    running: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """US dollars an hour by component; None where unknown, with the reason in `unknown`."""

    usd_per_hour: Mapping[Component, float | None]
    unknown: Mapping[Component, str]
    source: str
    as_of: str

    @property
    def total(self) -> float | None:
        """Return the sum; unknown as soon as a component is: without it the sum would be too low."""
        prices = [price for price in self.usd_per_hour.values() if price is not None]
        return sum(prices) if len(prices) == len(self.usd_per_hour) else None


def parts_of(config: Mapping[str, Any], **others: Any) -> BillableParts:
    """Return the parts of a bot with this configuration. `others`: fields that it does not say."""
    return BillableParts(
        instance_type=str(config["instance_type"]),
        volume_gib=float(str(config["storage"]).removesuffix("GB")),
        **others,
    )


def estimate(parts: BillableParts, prices: PriceTable) -> Estimate:
    """Return what these parts cost at these prices."""
    hourly: dict[Component, float | None] = dict.fromkeys(COMPONENTS)
    unknown: dict[Component, str] = {}

    def put(component: Component, amount: float | None, price: float | None, missing: str, what: str) -> None:
        """Price a component; `missing` is the reason where its amount is unknown, `what` names its price."""
        if amount == 0:
            hourly[component] = 0.0
        elif amount is None:
            unknown[component] = missing
        elif price is None:
            unknown[component] = f"no price of {what} in {prices.region}; {REFRESH}"
        else:
            hourly[component] = amount * price

    gib_hour = None if prices.gp3 is None else prices.gp3 / HOURS_A_MONTH
    of_type = prices.instance.get(parts.instance_type)
    put("instance", float(parts.running), of_type, "", parts.instance_type)
    put("volume", parts.volume_gib * parts.volumes, gib_hour, "", "gp3 volumes")
    no_address = "whether it has a public address is not known"
    put("address", parts.addresses, prices.address, no_address, "public addresses")
    of_credits = prices.burst if family_name(parts.instance_type) in BURST_FAMILIES else None
    put("burst", parts.surplus_vcpus, of_credits, "its use of CPU credits is not known", "CPU credits")
    return Estimate(hourly, unknown, prices.source, prices.as_of)


def surplus_vcpus(mean_cpu: float, vcpus: int, baseline: float) -> float:
    """Return the vCPUs that unlimited credits are charged for.

    `mean_cpu`: the day's; `baseline`: the share that credits pay for. Both are 0 to 1 of each vCPU.
    """
    return max(0.0, mean_cpu - baseline) * vcpus


@dataclass(frozen=True, slots=True)
class Rate:
    """What a component of a bot cost, from when to when (Unix seconds).

    `until` None: it still does. `usd_per_hour` None: its price is unknown.
    """

    bot: str
    template: str
    environment: str
    component: str
    since: float
    until: float | None
    usd_per_hour: float | None
    id: int = 0


@dataclass(frozen=True, slots=True)
class ModelSpend:
    """What a bot's requests to a model have cost in a month, from `since` to `until` (Unix seconds)."""

    bot: str
    model: str
    month: str
    template: str
    environment: str
    usd: float
    requests: float
    unpriced: float
    input_tokens: float
    output_tokens: float
    since: float
    until: float

    @property
    def usd_per_request(self) -> float | None:
        """Return the mean over the requests whose price is known."""
        priced = self.requests - self.unpriced
        return self.usd / priced if priced > 0 else None


def month_of(at: float) -> str:
    """Return the month as 2026-11, in UTC, as AWS bills."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def month_bounds(at: float) -> tuple[float, float]:
    """Return the first moment of the month around `at`, and the next month's (Unix seconds)."""
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    december = first.month == 12
    following = first.replace(year=first.year + december, month=1 if december else first.month + 1)
    return first.timestamp(), following.timestamp()


def spent(rates: Iterable[Rate], since: float, now: float) -> tuple[float, float]:
    """Return dollars from `since` to `now`, and hours of components whose price was unknown."""
    usd = unknown_hours = 0.0
    for rate in rates:
        until = now if rate.until is None else min(rate.until, now)
        hours = max(0.0, until - max(rate.since, since)) / 3600
        if rate.usd_per_hour is None:
            unknown_hours += hours
        else:
            usd += hours * rate.usd_per_hour
    return usd, unknown_hours


def changed(open_rates: Iterable[Rate], wanted: Iterable[Rate]) -> tuple[list[int], list[Rate]]:
    """Return the ids of the rows to close and the rows to add; what costs as before keeps its row."""
    outdated = {(rate.bot, rate.component): rate for rate in open_rates}
    added = []
    for rate in wanted:
        before = outdated.get((rate.bot, rate.component))
        if before is not None and _same(before, rate):
            del outdated[rate.bot, rate.component]
        else:
            added.append(rate)
    return [rate.id for rate in outdated.values()], added


def _same(old: Rate, new: Rate) -> bool:
    return (old.template, old.environment, old.usd_per_hour) == (
        new.template,
        new.environment,
        new.usd_per_hour,
    )
