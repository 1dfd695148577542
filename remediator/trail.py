"""Is the audit trail as it was written? Each row's hash covers the row and the hash before it. Pure."""

from collections.abc import Iterable

from remediator.model import AuditEntry
from remediator.transaction import chained


def faults(entries: Iterable[AuditEntry], head: str) -> list[str]:
    """What was altered, removed or reordered, in words; `head` is the newest hash, kept apart."""
    found: list[str] = []
    before = ""
    for entry in entries:
        row = {
            "at": entry.at,
            "actor": entry.actor,
            "event": entry.event,
            "bot": entry.bot,
            "run_id": entry.run_id,
            "detail": entry.detail,
        }
        if entry.hash != chained(before, row):
            what = "it was altered, or a row before it is missing or moved"
            found.append(f"row {entry.id} ({entry.event}): {what}")
        before = entry.hash
    if before != head:
        found.append("the newest rows are missing: the trail does not end where it did")
    return found
