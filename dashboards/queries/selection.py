"""PromQL that all dashboards share: which bots are chosen, and one value for each of them.

Everything about a bot is filtered by `CHOSEN`: the bots that match the dashboard's variables. It is joined
with `and on (bot)`, because the series of a bot carry no environment or template, and because a bot without
`bot_info` must not drop out.
"""

from typing import Final

INTERVAL: Final = "$__rate_interval"
RANGE: Final = "$__range"  # all of the time that is shown
OF_BOT: Final = 'bot=~"$bot"'
CHOSEN: Final = f'bot:bot_info:identity{{environment=~"$environment",template=~"$template",{OF_BOT}}}'
PREDICTED: Final = "bot:bot_health_score:predicted1h"


def of_chosen(vector: str) -> str:
    """Return a vector with a `bot` label, for the chosen bots alone."""
    return f"({vector}) and on (bot) {CHOSEN}"


def or_zero(number: str) -> str:
    """Return a number that is 0 where there is nothing to count; `count` of nothing is nothing."""
    return f"({number}) or vector(0)"


def count_chosen(vector: str) -> str:
    """Return how many of the chosen bots are in the vector."""
    return or_zero(f"count({of_chosen(vector)})")


def count(vector: str) -> str:
    """Return how many series the vector has."""
    return or_zero(f"count({vector})")


def per_bot(series: object, matchers: str = "") -> str:
    """Return one value for each bot, whichever exporter it came from, as the alerts do."""
    return f"max by (bot) ({series}{matchers})"


def mean_per_bot(series: object, window: str) -> str:
    """Return each bot's mean over a window, as the exporter that reaches it best has it."""
    return f"max by (bot) (avg_over_time({series}[{window}]))"
