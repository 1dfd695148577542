"""What was done to the fleet: an append-only log, the proof of what acted and how often."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Effects:
    """Entries are `{at (unix seconds), action, instance_id, bot}`, in the order in which they happened."""

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
