"""Which tier may act by itself, which asks first, which only writes down what it would do. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from remediator.model import TIERS, Mode, Tier
from templates import ENVIRONMENTS


@dataclass(frozen=True, slots=True)
class Rule:
    """The mode of a tier in an environment; empty ones are any."""

    environment: str
    tier: str
    mode: Mode


SCALE: Final = "scale"  # no tier, but has modes as they have


def parse_rule(text: str) -> Rule:
    """Read a rule such as `redeploy=approve`, `staging:restart=auto` or `development:*=shadow`.

    Raise ValueError, which names what is wrong.
    """
    subject, separator, mode = text.partition("=")
    environment, colon, tier = subject.rpartition(":")
    if not separator or mode not in get_args(Mode):
        raise ValueError(f"{text!r} must end in =auto, =approve or =shadow")
    if tier not in (*TIERS, SCALE, "*"):
        raise ValueError(f"{text!r}: {tier!r} is no tier; use restart, reboot, redeploy, scale or *")
    if colon and environment not in (*ENVIRONMENTS, "*"):
        raise ValueError(f"{text!r}: {environment!r} is none of {', '.join(ENVIRONMENTS)}")
    return Rule(environment.strip("*"), tier.strip("*"), mode)  # type: ignore[arg-type]  # checked above


def mode_for_scaling(rules: Sequence[Rule], environment: str) -> Mode:
    """Return shadow, unless a rule names `scale`: what `*` allows was not meant for it."""
    mode: Mode = "shadow"
    rank = -1
    for rule in rules:
        applies = rule.tier == SCALE and rule.environment in ("", environment)
        if applies and bool(rule.environment) >= rank:
            mode, rank = rule.mode, bool(rule.environment)
    return mode


def mode_for(rules: Sequence[Rule], environment: str, tier: Tier) -> Mode:
    """Return the mode of the most specific rule, of the later of two that are as specific; else auto."""
    mode: Mode = "auto"
    rank = -1
    for rule in rules:
        applies = rule.environment in ("", environment) and rule.tier in ("", tier)
        specificity = 2 * bool(rule.environment) + bool(rule.tier)
        if applies and specificity >= rank:
            mode, rank = rule.mode, specificity
    return mode
