"""What a bot costs an hour, by component, and what was spent. Pure. Unknown is None, and never 0."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from remediator.prices import PriceTable

HOURS_A_MONTH: Final = 730.0  # as AWS reckons a month where it names one price for it
Component = Literal["instance", "volume", "address", "burst"]
COMPONENTS: Final[tuple[Component, ...]] = ("instance", "volume", "address", "burst")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a bot is made of. None: not known."""

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
        """Unknown as soon as a component is: a sum without it would be too low."""
        known = [price for price in self.usd_per_hour.values() if price is not None]
        return sum(known) if len(known) == len(self.usd_per_hour) else None


def parts_of(config: Mapping[str, Any], **known: Any) -> Parts:
    """From a bot's configuration, and what else is known of it."""
    return Parts(
        instance_type=str(config["instance_type"]),
        volume_gib=float(str(config["storage"]).removesuffix("GB")),
        **known,
    )


def estimate(parts: Parts, prices: PriceTable) -> Estimate:
    """What these parts cost at these prices."""
    hourly: dict[Component, float | None] = dict.fromkeys(COMPONENTS)
    unknown: dict[Component, str] = {}

    def put(component: Component, amount: float | None, price: float | None, missing: str, what: str) -> None:
        if amount == 0:
            hourly[component] = 0.0
        elif amount is None:
            unknown[component] = missing
        elif price is None:
            unknown[component] = f"no price of {what} in {prices.region}"
        else:
            hourly[component] = amount * price

    gib_hour = None if prices.gp3 is None else prices.gp3 / HOURS_A_MONTH
    of_type = prices.instance.get(parts.instance_type)
    put("instance", float(parts.running), of_type, "", parts.instance_type)
    put("volume", parts.volume_gib * parts.volumes, gib_hour, "", "gp3 volumes")
    nothing_known = "whether it has a public address is not known"
    put("address", parts.addresses, prices.address, nothing_known, "public addresses")
    put("burst", parts.surplus_vcpus, prices.burst, "its use of CPU credits is not known", "CPU credits")
    return Estimate(hourly, unknown, prices.source, prices.as_of)


def surplus_vcpus(mean_cpu: float, vcpus: int, baseline: float) -> float:
    """vCPUs that unlimited credits are charged for: the day's mean over the baseline (both 0 to 1 a vCPU)."""
    return max(0.0, mean_cpu - baseline) * vcpus


@dataclass(frozen=True, slots=True)
class Rate:
    """What a component of a bot cost from when to when (Unix seconds); None: until now; an unknown price."""

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
    """What a bot's requests to a model have cost in a month."""

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
        priced = self.requests - self.unpriced
        return self.usd / priced if priced > 0 else None


def month_of(at: float) -> str:
    """As 2026-11; UTC, as AWS bills."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def month_bounds(at: float) -> tuple[float, float]:
    """Unix seconds of its first moment, and of the next month's."""
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    turn = first.month == 12
    following = first.replace(year=first.year + turn, month=1 if turn else first.month + 1)
    return first.timestamp(), following.timestamp()


def spent(rates: Iterable[Rate], since: float, now: float) -> tuple[float, float]:
    """Dollars since then, and hours of components whose price was unknown."""
    usd = unknown_hours = 0.0
    for rate in rates:
        until = now if rate.until is None else min(rate.until, now)
        hours = max(0.0, until - max(rate.since, since)) / 3600
        if rate.usd_per_hour is None:
            unknown_hours += hours
        else:
            usd += hours * rate.usd_per_hour
    return usd, unknown_hours


def changed(open_rates: Iterable[Rate], wanted: Iterable[Rate], now: float) -> tuple[list[int], list[Rate]]:
    """The rows to close now, and those to add: what costs as much as before keeps its row."""
    before = {(rate.bot, rate.component): rate for rate in open_rates}
    new = []
    for rate in wanted:
        old = before.get((rate.bot, rate.component))
        if old is not None and _same(old, rate):
            del before[rate.bot, rate.component]
        else:
            new.append(rate)
    return [rate.id for rate in before.values()], new


def _same(old: Rate, new: Rate) -> bool:
    return (old.template, old.environment, old.usd_per_hour) == (
        new.template,
        new.environment,
        new.usd_per_hour,
    )
