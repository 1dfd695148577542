"""The series of the groups that scale, as the replica that led last judged them."""

from collections.abc import Mapping

from remediator import metrics
from remediator.metrics import Samples, Series
from remediator.store.transaction import Transaction
from templates import Templates


async def samples(tx: Transaction, templates: Templates) -> Mapping[Series, Samples]:
    """Return the samples of a scrape: of groups that were judged, and that scale still."""
    groups = [
        (labels, state, limits.target)
        for labels, state in (await tx.scaling_states()).items()
        if labels[0] in templates.names and "capacity" in state
        if (limits := templates.get(*labels).scaling) is not None
    ]
    return {
        metrics.SCALING_BOTS: [(labels, state["bots"]) for labels, state, _ in groups],
        metrics.SCALING_CAPACITY: [(labels, state["capacity"]) for labels, state, _ in groups],
        metrics.SCALING_TARGET: [(labels, target) for labels, _, target in groups],
    }
