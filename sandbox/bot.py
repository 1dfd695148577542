"""A bot: the process one sandbox instance runs. `python -I -S bot.py HOME ADDRESS BOOT_ID`.

It answers `GET /health` and `GET /mesh` as a real one does, on the port of `bot.json` in its home, and shows
the fault described in the file `fault` there, which may change at any time. Standard library alone, and of it
only what starts fast: fifty of these come up in a second or two.
"""

import json
import os
import signal
import socketserver
import sys
import time
from pathlib import Path
from typing import Any

KEEP_ALIVE = 5.0  # seconds, as Node's HTTP server closes idle connections
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}


class Bot:
    """What the bot knows and how it answers."""

    def __init__(self, home: Path, boot_id: str) -> None:
        self.home = home
        self.boot_id = boot_id
        self.config: dict[str, Any] = json.loads((home / "bot.json").read_text())
        self.started_at = time.time()

    def fault(self) -> dict[str, Any]:
        """The fault in force: `{"kind": …, "seconds": …}`, or nothing."""
        try:
            text = (self.home / "fault").read_text()
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        fault = self.fault()
        kind = fault.get("kind")
        if kind == "slow":
            time.sleep(fault["seconds"])
        if kind == "error":
            return 500, {"ok": False, "error": "internal error"}
        if method != "GET":
            return 405, {"ok": False, "error": "method not allowed"}
        path = path.partition("?")[0]
        if path == self.config.get("health_path", "/health"):
            return 200, self.health()
        if path == self.config.get("mesh_path", "/mesh") and kind != "mesh":
            return 200, {"ok": True, "peers": [{"name": "hub", "up": True}]}
        if path == self.config.get("mesh_path", "/mesh"):
            return 500, {"ok": False, "error": "mesh lost"}
        return 404, {"ok": False, "error": "no such path"}

    def health(self) -> dict[str, Any]:
        requests = int(
            time.time() - self.started_at
        )  # one model request a second: monotonic, as real usage is
        return {
            "ok": True,
            "status": "live",
            "bot": self.config.get("bot", ""),
            "boot_id": self.boot_id,
            "started_at": self.started_at,
            "version": self.config.get("version", "sandbox-1"),
            "config_sha": self.config.get("config_sha", ""),
            "context_usage": requests % 100 / 100,
            "usage": {
                "requests": requests,
                "input_tokens": 900 * requests,
                "output_tokens": 250 * requests,
            },
        }


class Handler(socketserver.StreamRequestHandler):
    timeout = KEEP_ALIVE
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            while self.one_request():
                pass
        except OSError:
            pass  # the other side went away, or was idle for too long

    def one_request(self) -> bool:
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
        status, payload = bot.answer(words[0], words[1])
        body = json.dumps(payload).encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
        )
        self.wfile.write(head.encode() + body)
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
