"""Who wrote to a bot and waits to be admitted, as `openclaw pairing` keeps and tells it."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
READ_ONLY: Final = "Config is externally managed (`OPENCLAW_CONFIG_READONLY=1`), so it is immutable."


class Pairings:
    """A machine's pairings, on its disk. It prints, and exits, as OpenClaw 2026.9.6 does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, sender: int, name: str) -> str:
        """Let somebody write to the bot; return the code that they get."""
        state = self._read()
        code = "".join(secrets.choice(ALPHABET) for _ in range(8))
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        meta = {"firstName": name, "accountId": "default"}
        entry = {"id": str(sender), "code": code, "createdAt": now, "lastSeenAt": now, "meta": meta}
        state["requests"].append(entry)
        self._path.write_text(json.dumps(state))
        return code

    def run(self, words: list[str]) -> tuple[int, str, str]:
        """Do `openclaw pairing WORDS…`; return the exit code, the standard output and the standard error."""
        state = self._read()
        match words:
            case ["list", "telegram", "--json"]:
                return 0, json.dumps({"channel": "telegram", "requests": state["requests"]}, indent=2), ""
            case ["approve", "telegram", code]:
                found = [entry for entry in state["requests"] if entry["code"] == code]
                if not found:
                    reason = f'No pending pairing request found for code "{code}".'
                    return 1, "", f"[openclaw] The CLI command failed.\n[openclaw] Reason: {reason}"
                state["requests"].remove(found[0])
                state["allowed"].append(found[0]["id"])
                self._path.write_text(json.dumps(state))
                # It then fails to make them the owner of its commands: its configuration is read-only.
                return 1, f"Approved telegram sender {found[0]['id']}.\n", READ_ONLY
        return 1, "", f"[openclaw] unknown command: pairing {' '.join(words)}"

    @property
    def allowed(self) -> list[str]:
        """Return the ids of those who were admitted."""
        allowed: list[str] = self._read()["allowed"]
        return allowed

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"requests": [], "allowed": []}
        state: dict[str, Any] = json.loads(self._path.read_text())
        return state
