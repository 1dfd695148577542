"""Deploy two bots of each type: the last service of compose.yaml's profile `sandbox`."""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TYPES = ("tool-builder", "designer", "support", "manager")
PATIENCE = 120  # seconds for all of them


def call(url: str, token: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """Ask the remediator's API, by POST where there is a body; return its JSON, or raise HTTPError."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, headers), timeout=30) as response:  # noqa: S310 - the scheme is ours
        answer: dict[str, Any] = json.load(response)
        return answer


def deploy(url: str, token: str, bot: str, kind: str) -> str | None:
    """Deploy a bot; return the deployment's id, or None where the bot is there already."""
    request = {"botName": bot, "botType": kind, "telegramToken": "sandbox", "environment": "development"}
    try:
        return str(call(f"{url}/deploy", token, request)["deploymentId"])
    except HTTPError as error:
        if error.code == 409:
            return None
        sys.exit(f"{bot}: {error.read().decode()}")


def main(url: str, token: str) -> None:
    """Deploy the bots and wait until all are deployed; exit with a message where that fails."""
    deployments = {f"{kind}-{n}": deploy(url, token, f"{kind}-{n}", kind) for kind in TYPES for n in (1, 2)}
    running = {bot: deployment for bot, deployment in deployments.items() if deployment}
    deadline = time.monotonic() + PATIENCE
    while running and time.monotonic() < deadline:
        for bot, deployment in list(running.items()):
            state = call(f"{url}/deploy/{deployment}", token)
            if state["status"] == "failed":
                sys.exit(f"{bot}: {state['reason']}")
            if state["status"] == "deployed":
                print(f"{bot} deployed", flush=True)
                del running[bot]
        time.sleep(0.5)
    if running:
        sys.exit(f"not deployed after {PATIENCE} s: {', '.join(running)}")
    print("all deployed; make one ill: docker compose exec cloud python -m sandbox fault support-1 die")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_text().strip())
