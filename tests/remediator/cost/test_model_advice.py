"""Which model does the work for less, and when that is said."""

import pytest

from remediator.cost.estimate import ModelSpend
from remediator.cost.model_advice import Quality, by_model, cheaper_model

HAIKU, SONNET = "anthropic/claude-3-5-haiku-latest", "anthropic/claude-sonnet-4-20250514"
WELL = Quality(healthy=0.999, latency=0.3, context=0.4)


def spend(model: str = SONNET, requests: float = 1000, usd: float = 6.0, bot: str = "a") -> ModelSpend:
    return ModelSpend(
        bot,
        model,
        "2026-11",
        "support",
        "production",
        usd,
        requests,
        0,
        1000 * requests,
        200 * requests,
        0,
        0,
    )


def test_a_cheaper_model_is_suggested_where_the_template_allows_it_and_the_bot_is_well() -> None:
    advice = cheaper_model(spend(), [HAIKU], WELL, 10, "2026-11-22")
    assert (advice.status, advice.target) == ("recommended", HAIKU)
    assert advice.command == f"botctl config a --set model={HAIKU} --apply"
    # $3 and $15 a million tokens against $0.80 and $4, 100 requests a day
    assert advice.monthly_saving == pytest.approx((0.006 - 0.0016) * 100 * 365 / 12)
    assert cheaper_model(spend(), [], WELL, 10, "2026-11-22").target == ""
    assert cheaper_model(spend(), [SONNET], WELL, 10, "2026-11-22").target == ""


@pytest.mark.parametrize(
    "quality",
    [
        Quality(),
        Quality(healthy=0.9, latency=0.3),
        Quality(healthy=0.999, latency=9),
        Quality(healthy=0.999, latency=0.3, context=0.95),
    ],
)
def test_no_cheaper_model_while_the_bots_signals_do_not_carry_it(quality: Quality) -> None:
    assert cheaper_model(spend(), [HAIKU], quality, 10, "2026-11-22").target == ""


def test_few_requests_and_unknown_prices_are_insufficient_data() -> None:
    for known_badly in (spend(requests=99), spend(model="anthropic/claude-opus-latest")):
        assert cheaper_model(known_badly, [HAIKU], WELL, 10, "2026-11-22").status == "insufficient data"


def test_a_dearer_model_is_never_suggested() -> None:
    assert cheaper_model(spend(HAIKU), [SONNET], WELL, 10, "2026-11-22").target == ""


def test_who_follows_the_advice_on_models_is_told_nothing_new() -> None:
    advice = cheaper_model(spend(), [HAIKU, SONNET], WELL, 10, "2026-11-22")
    assert cheaper_model(spend(advice.target), [HAIKU, SONNET], WELL, 10, "2026-11-22").target == ""


def test_models_are_compared_by_template_with_errors_and_latency() -> None:
    quality = {"a": Quality(0.9, 0.5), "b": Quality(1.0, 1.5)}
    (row,) = by_model([spend(), spend(bot="b", usd=4.0)], quality)
    assert (row.bots, row.requests, row.usd, row.usd_per_request) == (2, 2000, 10, 0.005)
    assert row.error_ratio == pytest.approx(0.05)
    assert row.latency_seconds == 1.5
