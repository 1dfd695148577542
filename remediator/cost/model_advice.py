"""What each model does for its money, and where a cheaper one would do. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from remediator.cost.estimate import ModelSpend
from remediator.cost.model_pricing import request_price
from remediator.cost.rightsizing import Advice

FEWEST_REQUESTS: Final = 100  # fewer say nothing
CHEAPER: Final = 0.8  # of what the model in use costs: less of a saving is not worth a change
HEALTHY_SHARE: Final = 0.99  # of probes, at least
LATENCY_LIMIT: Final = 2.0  # seconds; p95
CONTEXT_LIMIT: Final = 0.8  # share of the context window; p99.5
EASE: Final = 0.98  # advice that stands is kept down to this share of the limits: it does not flap


@dataclass(frozen=True, slots=True)
class Quality:
    """A bot's own signals over the window; None: not known."""

    healthy: float | None = None  # share of probes that were well
    latency: float | None = None  # seconds, p95 of /health
    context: float | None = None  # p99.5


@dataclass(frozen=True, slots=True)
class Efficiency:
    """A model in a template; dollars are None where a price is unknown."""

    template: str
    model: str
    bots: int
    requests: float
    input_tokens: float
    output_tokens: float
    usd: float | None
    usd_per_request: float | None
    error_ratio: float | None
    latency_seconds: float | None


def by_model(spends: Iterable[ModelSpend], quality: Mapping[str, Quality]) -> list[Efficiency]:
    """Return one row for each template and model, those that cost most first."""
    groups: dict[tuple[str, str], list[ModelSpend]] = {}
    for spend in spends:
        groups.setdefault((spend.template, spend.model), []).append(spend)
    rows = [_row(template, model, group, quality) for (template, model), group in groups.items()]
    return sorted(rows, key=lambda row: (-(row.usd or 0), row.template, row.model))


def _row(
    template: str, model: str, spends: Sequence[ModelSpend], quality: Mapping[str, Quality]
) -> Efficiency:
    bots = sorted({spend.bot for spend in spends})
    requests, unpriced = sum(spend.requests for spend in spends), sum(spend.unpriced for spend in spends)
    usd = sum(spend.usd for spend in spends)
    signals = [quality.get(bot, Quality()) for bot in bots]
    healthy = [signal.healthy for signal in signals if signal.healthy is not None]
    latency = [signal.latency for signal in signals if signal.latency is not None]
    priced = requests - unpriced
    return Efficiency(
        template=template,
        model=model,
        bots=len(bots),
        requests=requests,
        input_tokens=sum(spend.input_tokens for spend in spends),
        output_tokens=sum(spend.output_tokens for spend in spends),
        usd=usd if unpriced == 0 else None,
        usd_per_request=usd / priced if priced > 0 else None,
        error_ratio=1 - sum(healthy) / len(healthy) if healthy else None,
        latency_seconds=max(latency) if latency else None,
    )


def cheaper_model(
    spend: ModelSpend,
    allowed: Sequence[str],
    quality: Quality,
    days: float,
    day: str,
    standing: str = "",
    priced_as: Callable[[str], str] = str,
) -> Advice:
    """Return advice on the bot's model, of those its template allows.

    `spend`: over the last `days`. `day` (ISO 8601): whose prices hold. `standing`: the target that was
    advised last. `priced_as` gives a model's name in price lists. A model of unknown price is neither left
    nor suggested.
    """
    advice = Advice(spend.bot, "model", "fits", spend.model)
    if spend.requests < FEWEST_REQUESTS:
        reason = f"{spend.requests:.0f} requests in {days:.0f} days; {FEWEST_REQUESTS} are needed"
        return _insufficient(advice, reason)
    tokens = round(spend.input_tokens / spend.requests), round(spend.output_tokens / spend.requests)
    present = request_price(priced_as(spend.model), *tokens, day)
    if present is None:
        return _insufficient(advice, f"the price of {spend.model} is not known")
    others = [model for model in allowed if model != spend.model]
    limit = present * CHEAPER * (1 / EASE if standing in others else 1.0)
    prices = {model: request_price(priced_as(model), *tokens, day) for model in others}
    price, model = _cheapest(prices, limit)
    if not model:
        return advice
    signals, poor = _signals(quality, EASE if model == standing else 1.0)
    evidence = [
        f"{spend.requests:.0f} requests in {days:.0f} days, {tokens[0]} tokens in and {tokens[1]} out each",
        f"a request costs ${present:.5f} with {spend.model}, ${price:.5f} with {model}",
        *signals,
    ]
    if poor:
        return replace(advice, evidence=[*evidence, f"not while {poor}"])
    monthly_saving = (present - price) * spend.requests / days * 365 / 12
    return _recommended(advice, model, monthly_saving, evidence)


def _insufficient(advice: Advice, reason: str) -> Advice:
    return replace(advice, status="insufficient data", evidence=[reason])


def _recommended(advice: Advice, model: str, monthly_saving: float, evidence: list[str]) -> Advice:
    return replace(
        advice,
        status="recommended",
        target=model,
        monthly_saving=monthly_saving,
        evidence=evidence,
        risk="Medium: answers of a smaller model may be worse, which no probe can see. Try it on one bot.",
        overrides={"model": model},
    )


def _cheapest(prices: Mapping[str, float | None], limit: float) -> tuple[float, str]:
    """Return the lowest price up to the limit, and its model; no model where there is none."""
    below = [(price, model) for model, price in prices.items() if price is not None and price <= limit]
    return min(below, default=(limit, ""))


def _signals(quality: Quality, ease: float) -> tuple[list[str], str]:
    """Return the signals in words, and which of them forbids a smaller model; an unknown one does, too."""
    if quality.healthy is None or quality.latency is None:
        return ["its health is not known"], "its health is not known"
    signals = [f"{quality.healthy:.2%} of its probes were well; p95 of /health {quality.latency:.2f} s"]
    if quality.context is not None:
        signals.append(f"context window: {quality.context:.0%} in use at p99.5")
    if quality.healthy < HEALTHY_SHARE * ease:
        return signals, "it is ill so often"
    if quality.latency > LATENCY_LIMIT / ease:
        return signals, "it is so slow"
    if quality.context is not None and quality.context > CONTEXT_LIMIT / ease:
        return signals, "its context window is so full"
    return signals, ""
