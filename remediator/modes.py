"""Which tier may act by itself, which asks first, which only writes down what it would do. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from remediator.gates import Mode
from remediator.ladder import TIERS
from remediator.model import Tier
from templates import ENVIRONMENTS


@dataclass(frozen=True, slots=True)
class Rule:
    """Empty environment or tier: any."""

    environment: str
    tier: str
    mode: Mode


SCALE: Final = "scale"  # no tier, but has modes as they have


def parse_rule(text: str) -> Rule:
    """`redeploy=approve`, `staging:restart=auto`, `development:*=shadow`. ValueError naming what is wrong."""
    place, separator, mode = text.partition("=")
    environment, colon, tier = place.rpartition(":")
    if not separator or mode not in get_args(Mode):
        raise ValueError(f"{text!r} must end in =auto, =approve or =shadow")
    if tier not in (*TIERS, SCALE, "*"):
        raise ValueError(f"{text!r}: {tier!r} is no tier; use restart, reboot, redeploy, scale or *")
    if colon and environment not in (*ENVIRONMENTS, "*"):
        raise ValueError(f"{text!r}: {environment!r} is none of {', '.join(ENVIRONMENTS)}")
    return Rule(environment.strip("*"), tier.strip("*"), mode)  # type: ignore[arg-type]  # checked above


def mode_of_scaling(rules: Sequence[Rule], environment: str) -> Mode:
    """Shadow, until a rule says otherwise that names `scale`: what `*` allows was not meant for it."""
    found, rank = "shadow", -1
    for rule in rules:
        fits = rule.tier == SCALE and rule.environment in ("", environment)
        if fits and bool(rule.environment) >= rank:
            found, rank = rule.mode, bool(rule.environment)
    return found  # type: ignore[return-value]  # a Mode in either case


def mode_for(rules: Sequence[Rule], environment: str, tier: Tier) -> Mode:
    """The rule that says most of environment and tier, the later of two that say as much; else auto."""
    found, rank = "auto", -1
    for rule in rules:
        fits = rule.environment in ("", environment) and rule.tier in ("", tier)
        says = 2 * bool(rule.environment) + bool(rule.tier)
        if fits and says >= rank:
            found, rank = rule.mode, says
    return found  # type: ignore[return-value]  # a Mode in either case
