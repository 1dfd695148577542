"""What requests to a model cost, by genai-prices (offline). A model it does not know has an unknown price."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Final

from templates.facts import current_model

SOURCE: Final = f"genai-prices {version('genai-prices')}"


@dataclass(frozen=True, slots=True)
class Counters:
    """What a bot reported at a moment (Unix seconds): monotonic until it starts again."""

    at: float
    requests: float
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Requests:
    """Some requests of about the same size: `input_tokens` and `output_tokens` are of all of them."""

    at: float
    count: float
    input_tokens: float
    output_tokens: float


def between(before: Counters | None, points: Iterable[Counters]) -> list[Requests]:
    """Return the requests between each two probes, oldest first.

    Counters that fall are those of a bot that started again: all they say is new, as in Prometheus's
    `increase`. Without a `before`, the first point is where counting begins.
    """
    requests = []
    for point in points:
        if before is None:
            before = point
            continue
        if point.at <= before.at:
            continue
        fell = point.requests < before.requests
        base = Counters(before.at, 0, 0, 0) if fell else before
        count = point.requests - base.requests
        tokens_in = max(0.0, point.input_tokens - base.input_tokens)
        tokens_out = max(0.0, point.output_tokens - base.output_tokens)
        if count > 0 or tokens_in > 0 or tokens_out > 0:
            # Tokens may be reported a moment before the request that they belong to.
            requests.append(Requests(point.at, max(count, 1.0), tokens_in, tokens_out))
        before = point
    return requests


def priced(model: str, requests: Requests) -> float | None:
    """Return US dollars for all of them; None where the price is unknown.

    Long contexts cost more a token, so each request is priced, not the sum. Where one probe saw several, each
    is taken to be their average: right unless they lie on both sides of a tier's limit.
    """
    count = max(requests.count, 1.0)
    price = request_price(
        model,
        round(requests.input_tokens / count),
        round(requests.output_tokens / count),
        datetime.fromtimestamp(requests.at, UTC).strftime("%Y-%m-%d"),
    )
    return None if price is None else price * requests.count


@lru_cache(maxsize=65536)
def request_price(model: str, input_tokens: int, output_tokens: int, day: str) -> float | None:
    """Return US dollars of one request on that day; None where the price is unknown.

    `model` as templates have it: provider/name. `day`: ISO 8601, for prices change.
    """
    import genai_prices  # its list of prices is needed only where a bot counts what it asks

    provider, _, name = model.partition("/")
    usage = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    when = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    try:
        result = genai_prices.calc_price(usage, name, provider_id=provider, genai_request_timestamp=when)
    except (LookupError, ValueError):
        return None
    price = float(result.total_price)
    # A list that says a request with tokens costs nothing knows no price for it.
    return price if price > 0 or not (input_tokens or output_tokens) else None


def parse_aliases(pairs: Iterable[str]) -> dict[str, str]:
    """Return model → the name that price lists have for it, from `MODEL=NAME` pairs."""
    return {model: name for model, _, name in (pair.partition("=") for pair in pairs)}


def aliased(model: str, aliases: Mapping[str, str]) -> str:
    """Return the name by which price lists have the model: a setting's, or the current model's."""
    return aliases.get(model) or current_model(model)
