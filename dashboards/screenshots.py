"""Take a screenshot of each dashboard of a running Grafana.

    GRAFANA_URL=http://127.0.0.1:3000 python -m dashboards.screenshots FOLDER

The Grafana must have these dashboards (`compose.yaml` provisions them), let anyone view
(GF_AUTH_ANONYMOUS_ENABLED, as there), and have had a fleet to look at for a while. A headless Chromium draws
them: no image renderer is needed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from dashboards.__main__ import GENERATED, ROOT
from dashboards.style import Json

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH: Final = 1600
ROW, MARGIN = 38, 160  # pixels of a grid row with its gap; of the variables above
TIMEOUT: Final = 90.0  # seconds a screenshot may take


def height(board: Json) -> int:
    """Return the pixels that show all of it: Grafana does not query what is out of view."""
    return MARGIN + ROW * max(int(p["gridPos"]["y"] + p["gridPos"]["h"]) for p in board["panels"])


def address(grafana: str, board: Json, *, theme: str, bot: str, since: str) -> str:
    """Return the URL of the dashboard without Grafana's own bars."""
    choice = {"kiosk": "1", "theme": theme, "from": since, "to": "now", "refresh": ""}
    if bot:
        choice["var-bot"] = bot
    return f"{grafana.rstrip('/')}/d/{board['uid']}?{urlencode(choice)}"


def command(browser: str, url: str, picture: Path, board: Json) -> list[str]:
    """Return the command that draws the URL into the file."""
    return [
        browser,
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={WIDTH},{height(board)}",
        "--virtual-time-budget=30000",  # milliseconds for the panels to ask and draw
        f"--screenshot={picture}",
        url,
    ]


def boards() -> Iterator[tuple[str, Json]]:
    """Yield each generated dashboard with the stem of its file."""
    for path in sorted((ROOT / GENERATED).glob("*.json")):
        yield path.stem, json.loads(path.read_text())


def refuse(reason: str) -> int:
    """Say on stderr why there is no screenshot; return the exit code."""
    sys.stderr.write(f"screenshots: {reason}\n")
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the screenshots; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the pictures go, as NAME-THEME.png")
    parser.add_argument("--bot", default="", help="the bot of the page of one bot (default: the first)")
    parser.add_argument("--since", default="now-1h", help="how far back they show (default: %(default)s)")
    parser.add_argument(
        "--theme",
        choices=("light", "dark"),
        nargs="*",
        default=["dark", "light"],
        help="(default: both)",
    )
    options = parser.parse_args(arguments)
    grafana = os.environ.get("GRAFANA_URL", "")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not grafana.startswith(("http://", "https://")):
        return refuse("set GRAFANA_URL to a Grafana that runs, such as http://127.0.0.1:3000")
    if browser is None:
        return refuse(f"no browser on the PATH; install one of {', '.join(BROWSERS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, board in boards():
        for theme in options.theme:
            picture = options.folder / f"{name}-{theme}.png"
            bot = options.bot if board["uid"] == "bot-detail" else ""
            url = address(grafana, board, theme=theme, bot=bot, since=options.since)
            picture.unlink(missing_ok=True)
            try:
                done = subprocess.run(  # noqa: S603 - a list of our own making, no shell
                    command(browser, url, picture, board), capture_output=True, timeout=TIMEOUT, check=False
                )
            except subprocess.TimeoutExpired:
                return refuse(f"{url}: no picture within {TIMEOUT:g} s")
            if not picture.exists():
                return refuse(f"{url}: {done.stderr.decode(errors='replace')[-500:]}")
            sys.stdout.write(f"{picture}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
