"""What each model does for its money, and where a cheaper one would do. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remediator.advice import Advice
from remediator.cost import ModelSpend
from remediator.model_prices import request_price

FEW_REQUESTS: Final = 100  # fewer say nothing
CHEAPER: Final = 0.8  # of what the model in use costs: less of a saving is not worth a change
WELL: Final = 0.99  # share of probes answered
QUICK: Final = 2.0  # seconds; p95
ROOM: Final = 0.8  # share of the context window
EASE: Final = 0.98  # what stands goes on to be said down to this share of the limits: it does not flap


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
    """One row a template and model, those that cost most first."""
    groups: dict[tuple[str, str], list[ModelSpend]] = {}
    for spend in spends:
        groups.setdefault((spend.template, spend.model), []).append(spend)
    rows = [_row(template, model, of, quality) for (template, model), of in groups.items()]
    return sorted(rows, key=lambda row: (-(row.usd or 0), row.template, row.model))


def _row(template: str, model: str, of: Sequence[ModelSpend], quality: Mapping[str, Quality]) -> Efficiency:
    bots = sorted({spend.bot for spend in of})
    requests, unpriced = sum(spend.requests for spend in of), sum(spend.unpriced for spend in of)
    usd = sum(spend.usd for spend in of)
    signals = [quality.get(bot, Quality()) for bot in bots]
    healthy = [one.healthy for one in signals if one.healthy is not None]
    latency = [one.latency for one in signals if one.latency is not None]
    priced = requests - unpriced
    return Efficiency(
        template=template,
        model=model,
        bots=len(bots),
        requests=requests,
        input_tokens=sum(spend.input_tokens for spend in of),
        output_tokens=sum(spend.output_tokens for spend in of),
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
    """Whether the bot should use another model of those its template allows.

    `spend`: over the last `days`. `day`: whose prices hold. A model of unknown price is neither left nor
    suggested; `priced_as` says by which name price lists know one.
    """
    advice = Advice(spend.bot, "model", "fits", spend.model)
    if spend.requests < FEW_REQUESTS:
        why = f"{spend.requests:.0f} requests in {days:.0f} days; {FEW_REQUESTS} are needed"
        return _with(advice, "insufficient data", [why])
    tokens = round(spend.input_tokens / spend.requests), round(spend.output_tokens / spend.requests)
    present = request_price(priced_as(spend.model), *tokens, day)
    if present is None:
        return _with(advice, "insufficient data", [f"the price of {spend.model} is not known"])
    prices = {model: request_price(priced_as(model), *tokens, day) for model in allowed}
    prices.pop(spend.model, None)
    ease = 1 / EASE if standing in prices else 1.0
    found = [(price, model) for model, price in prices.items() if price is not None]
    found = [(price, model) for price, model in found if price <= present * CHEAPER * ease]
    if not found:
        return advice
    price, model = min(found)
    signals, poor = _signals(quality, EASE if model == standing else 1.0)
    evidence = [
        f"{spend.requests:.0f} requests in {days:.0f} days, {tokens[0]} tokens in and {tokens[1]} out each",
        f"a request costs ${present:.5f} with {spend.model}, ${price:.5f} with {model}",
        *signals,
    ]
    if poor:
        return _with(advice, "fits", [*evidence, f"not while {poor}"])
    return Advice(
        bot=spend.bot,
        kind="model",
        status="recommended",
        current=spend.model,
        target=model,
        monthly_saving=(present - price) * spend.requests / days * 365 / 12,
        evidence=evidence,
        risk="Medium: answers of a smaller model may be worse, which no probe can see. Try it on one bot.",
        overrides={"model": model},
    )


def _with(advice: Advice, status: str, evidence: Sequence[str]) -> Advice:
    return Advice(advice.bot, advice.kind, status, advice.current, evidence=evidence)  # type: ignore[arg-type]  # a Status


def _signals(quality: Quality, ease: float) -> tuple[list[str], str]:
    """What the signals say, and which of them forbids a smaller model; not known forbids, too."""
    if quality.healthy is None or quality.latency is None:
        return ["its health is not known"], "its health is not known"
    said = [f"{quality.healthy:.2%} of its probes were well; p95 of /health {quality.latency:.2f} s"]
    if quality.context is not None:
        said.append(f"context window: {quality.context:.0%} in use at p99.5")
    if quality.healthy < WELL * ease:
        return said, "it is ill so often"
    if quality.latency > QUICK / ease:
        return said, "it is so slow"
    if quality.context is not None and quality.context > ROOM / ease:
        return said, "its context window is so full"
    return said, ""
