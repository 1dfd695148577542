"""A person's yes to the move that a group has proposed."""

from remediator.errors import Refused
from remediator.store.transaction import Transaction


async def approve(tx: Transaction, template: str, environment: str, actor: str, reason: str) -> str:
    """Write down the yes, and return the direction of the move; the autoscaler makes it if it is still due.

    Raise Refused: unknown where there is no such group, conflict where it proposes nothing.
    """
    state = await tx.scaling(template, environment)
    if not state:
        name, remedy = f"{template}/{environment}"[:80], "GET /scaling lists the groups"
        raise Refused("unknown", f"there is no {name!r}", field="template", remedy=remedy)
    proposed = state.get("proposed")
    if proposed is None:
        raise Refused(
            "conflict",
            f"{template} in {environment} proposes nothing",
            field="template",
            remedy="GET /scaling shows what each group is up to",
        )
    state["proposed"] = {**proposed, "approved": actor}
    await tx.set_scaling(template, environment, state)
    direction = str(proposed["direction"])
    group = {"template": template, "environment": environment}
    await tx.audit("scale.approved", actor=actor, reason=reason, **group, direction=direction)
    return direction
