"""Models of language: what the catalogue of the pinned OpenClaw and the price list know of a name."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from templates.facts import current_model

FILE: Final = Path(__file__).with_name("data") / "models.yaml"


@cache
def _catalogue() -> Mapping[str, Any]:
    data: Mapping[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return data


def source() -> str:
    """Return whose catalogue it is, such as OpenClaw 2026.9.6."""
    return str(_catalogue()["source"])


def is_known_model(model: str) -> bool:
    """Return whether the catalogue or genai-prices knows a model (`provider/name`)."""
    provider, _, name = model.partition("/")
    return name in _catalogue()["models"].get(provider, ()) or _has_price(provider, name)


def _has_price(provider: str, name: str) -> bool:
    import genai_prices  # its list takes a while to load, and most names are in the catalogue

    if not provider or not name:
        return False
    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
    try:
        genai_prices.calc_price(usage, name, provider_id=provider)
    except (LookupError, ValueError):
        return False
    return True


def retired_for(model: str) -> str | None:
    """Return the model to use in place of one that no provider has, empty where none is known.

    None where it is not retired, or has an alias here.
    """
    if current_model(model) != model:
        return None
    provider, _, name = model.partition("/")
    instead = _catalogue()["retired"].get(provider, {}).get(name)
    return f"{provider}/{instead}" if instead else instead
