"""The effects on the fleet: an append-only log, the proof of each action and of its number."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Effects:
    """The log. Entries are `{at (unix seconds), action, instance_id, bot}`, in the order of the actions."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)
        self._entries: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, action: str, instance_id: str, bot: str) -> None:
        with self._lock:
            entry = {"at": time.time(), "action": action, "instance_id": instance_id, "bot": bot}
            self._entries.append(entry)
            self._file.write(json.dumps(entry) + "\n")

    def all(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._entries)

    def close(self) -> None:
        """Close the file; nothing is added any more."""
        self._file.close()
