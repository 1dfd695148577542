"""A bot: the process that a sandbox instance runs. `python -I -S bot.py HOME ADDRESS BOOT_ID`.

It answers `GET /health` and `GET /mesh` as OpenClaw and the bridge do (tests/conformance asks both), on the
port of `bot.json` in its home, and shows the fault described in the file `fault` there, which may change at
any time. Where there is a file `standby`, it started without its channel. Standard library alone, and of it
only what starts fast: fifty of these come up in a second or two.
"""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any

KEEP_ALIVE = 5.0  # seconds, as Node's HTTP server closes idle connections
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
PAGE = os.sysconf("SC_PAGE_SIZE")
CHANNEL = "telegram"
INPUT_TOKENS, OUTPUT_TOKENS = 900, 250  # of each call of the model


class Turns:
    """Its calls of the model: one a second. They fail while it is mute, and none ends while it is stuck."""

    def __init__(self) -> None:
        self.done = 0.0
        self.failed: dict[str, float] = {}
        self.age = 0.0  # seconds, of the call that does not end
        self._counted_at = time.time()
        self._lock = threading.Lock()

    def count(self, fault: dict[str, Any]) -> None:
        """Count those since the last time; `fault["since"]` is unix seconds."""
        kind = fault.get("kind")
        with self._lock:
            before, now = self._counted_at, time.time()
            began = min(max(before, fault["since"]), now) if kind in ("mute", "stuck") else now
            self.done += began - before
            if kind == "mute":
                self.failed[fault["reason"]] = self.failed.get(fault["reason"], 0.0) + now - began
            self.age = self.age + now - began if kind == "stuck" else 0.0
            self._counted_at = now

    def usage(self, model: str) -> dict[str, Any]:
        """Return what was used until then."""
        requests, failed = int(self.done), {kind: int(count) for kind, count in self.failed.items()}
        counts = {
            "requests": requests,
            "failed": sum(failed.values()),
            "input_tokens": INPUT_TOKENS * requests,
            "output_tokens": OUTPUT_TOKENS * requests,
        }
        return {**counts, "failed_by": failed, "models": {model: counts}}


class Bot:
    """A bot's state, and its answers."""

    def __init__(self, home: Path, boot_id: str) -> None:
        self.home = home
        self.boot_id = boot_id
        self.config: dict[str, Any] = json.loads((home / "bot.json").read_text())
        self.started_at = iso(time.time())
        self.turns = Turns()
        self.stands_by = (home / "standby").exists()

    def fault(self) -> dict[str, Any]:
        """Return the fault in force, `{"kind": …, "seconds": …, "reason": …, "since": …}`, or nothing."""
        path = self.home / "fault"
        try:
            since, text = path.stat().st_mtime, path.read_text()
        except FileNotFoundError:
            return {}
        fault: dict[str, Any] = json.loads(text)
        return {**fault, "since": since}

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any] | str]:
        """Return status and body of the answer to a request, late where the bot is slow."""
        fault = self.fault()
        kind = fault.get("kind")
        self.turns.count(fault)
        if kind == "slow":
            time.sleep(fault["seconds"])
        if kind == "error":
            return 500, {"ok": False, "error": "internal error"}
        path = path.partition("?")[0]
        if path == self.config.get("health_path", "/health"):
            readable = method in ("GET", "HEAD")
            return (200, {"ok": True, "status": "live"}) if readable else (405, "Method Not Allowed")
        if path == self.config.get("mesh_path", "/mesh"):
            return (500, {"ok": False, "error": "mesh lost"}) if kind == "mesh" else (200, self.mesh(kind))
        return 404, "Not Found"

    def mesh(self, fault: str | None) -> dict[str, Any]:
        """Return what it knows of itself."""
        model = self.config.get("model", "anthropic/claude-sonnet-5")
        channels = [] if self.stands_by else [{"name": CHANNEL, "up": fault != "deaf"}]
        return {
            "ok": True,
            "version": self.config.get("version", "sandbox-1"),
            "config_sha": self.config.get("config_sha", ""),
            "boot_id": self.boot_id,
            "started_at": self.started_at,
            "model": model,
            "context_usage": int(self.turns.done) % 100 / 100,
            "memory_bytes": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
            "turn_age_seconds": round(self.turns.age, 3),
            "usage": self.turns.usage(model),
            "eventLoop": {"utilization": 0.02},
            "channels": channels,
            "peers": channels,
        }


def iso(at: float) -> str:
    """Write unix seconds as JavaScript's toISOString does."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03}Z"


class Handler(socketserver.StreamRequestHandler):
    timeout = KEEP_ALIVE
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            while self.answer_request():
                pass
        except OSError:
            pass  # the other side went away, or was idle for too long

    def answer_request(self) -> bool:
        """Read one request, write one answer; False ends the connection."""
        words = self.rfile.readline(8192).decode("latin-1").split()
        if len(words) != 3:
            return False
        headers = {}
        while line := self.rfile.readline(8192).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        self.rfile.read(int(headers.get("content-length") or 0))
        close = headers.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0"
        bot: Bot = self.server.bot  # type: ignore[attr-defined]
        status, answer = bot.answer(words[0], words[1])
        content_type = "text/plain; charset=utf-8" if isinstance(answer, str) else "application/json"
        body = (answer if isinstance(answer, str) else json.dumps(answer, separators=(",", ":"))).encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
        )
        self.wfile.write(head.encode() + (b"" if words[0] == "HEAD" else body))
        return not close


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], bot: Bot) -> None:
        self.bot = bot
        super().__init__(address, Handler)


def main() -> None:
    home, address, boot_id = sys.argv[1:]
    bot = Bot(Path(home), boot_id)
    kind = bot.fault().get("kind")
    if kind == "die":
        sys.exit("fatal: this bot cannot live")
    with Server((address, int(bot.config.get("port", 18790))), bot) as server:
        print(f"listening http://{address}:{server.server_address[1]}", flush=True)
        if kind == "hang":
            os.kill(os.getpid(), signal.SIGSTOP)  # the kernel goes on accepting; nobody answers
        server.serve_forever()


if __name__ == "__main__":
    main()
