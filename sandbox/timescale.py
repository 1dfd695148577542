"""The repository's own `alerts/` on a faster clock: durations divided, this machine's addresses put in.

There is no second copy of rules or routing: the real files are read, changed as data, and written elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

ALERTS = Path(__file__).parent.parent / "alerts"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
DURATION = r"(?:\d+(?:ms|[smhdwy]))+"

PERIODS = ("scrape_interval", "scrape_timeout", "evaluation_interval", "interval")
WAITS = ("for", "keep_firing_for", "group_wait", "group_interval", "repeat_interval", "resolve_timeout")


class TimescaleError(ValueError):
    """The files are not what is expected of them; the message says where."""


def parse_duration(text: str) -> float:
    """Seconds of a Prometheus duration: `1h30m`, `250ms`, `0`."""
    if text == "0":
        return 0.0
    if not re.fullmatch(DURATION, text):
        raise TimescaleError(f"{text!r} is not a duration such as 30s, 1h30m or 250ms")
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))


def format_duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{round(seconds)}s"


@dataclass(frozen=True, slots=True)
class Timescale:
    """A clock `factor` times as fast. Floors, in seconds, keep a loaded machine out of trouble; 0 stays 0."""

    factor: float
    period_floor: float = 1.0  # of scrapes, evaluations and probes
    wait_floor: float = 0.5  # of `for`, group_wait and their like
    range_floor: float = 5.0  # of PromQL ranges: several scrapes must lie in one

    def seconds(self, seconds: float, floor: float) -> float:
        return seconds and min(seconds, max(seconds / self.factor, floor))

    def period(self, text: str) -> str:
        return format_duration(self.seconds(parse_duration(text), self.period_floor))

    def wait(self, text: str) -> str:
        return format_duration(self.seconds(parse_duration(text), self.wait_floor))

    def promql(self, expression: str) -> str:
        """Ranges, subqueries and offsets of an expression."""

        def ranges(found: re.Match[str]) -> str:
            return re.sub(DURATION, self._range, found[0])

        return re.sub(rf"\[\s*{DURATION}\s*(?::[^\]]*)?\]|\boffset\s+-?{DURATION}", ranges, expression)

    def _range(self, found: re.Match[str]) -> str:
        return format_duration(self.seconds(parse_duration(found[0]), self.range_floor))


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything listens (host:port), and where Telegram's API is (a URL)."""

    jobs: Mapping[str, str]  # by Prometheus job name
    alertmanager: str
    webhook: str
    telegram_api: str
    token: str  # the remediator's bearer token
    telegram_token: str
    telegram_chat: int
    credentials_file: Path = field(default=Path("remediator-token"))


def render(out: Path, scale: Timescale, addresses: Addresses, alerts: Path = ALERTS) -> None:
    """Write `prometheus.yml`, its rule files and `alertmanager.yml` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    prometheus = load(alerts / "prometheus.yml")
    patterns: list[str] = prometheus.get("rule_files", [])
    rules = {path.name: load(path) for pattern in patterns for path in sorted(alerts.glob(pattern))}
    if not rules:
        raise TimescaleError(f"{alerts / 'prometheus.yml'}: rule_files name no file that exists")
    point_prometheus(prometheus, addresses)
    prometheus["rule_files"] = sorted(rules)
    alertmanager = load(alerts / "alertmanager.yml")
    point_alertmanager(alertmanager, addresses)
    for name, document in {"prometheus.yml": prometheus, "alertmanager.yml": alertmanager, **rules}.items():
        (out / name).write_text(yaml.safe_dump(rescale(document, scale), sort_keys=False, width=10_000))
    credentials = out / addresses.credentials_file
    credentials.touch(mode=0o600)
    credentials.write_text(addresses.token)


def load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TimescaleError(f"{path}: {error}") from error


def rescale(node: Any, scale: Timescale) -> Any:
    """The document with every duration of it on the faster clock."""
    changes: dict[str, Callable[[str], str]] = {"expr": scale.promql}
    changes |= dict.fromkeys(PERIODS, scale.period) | dict.fromkeys(WAITS, scale.wait)
    if isinstance(node, dict):
        return {
            key: changes[key](str(value)) if key in changes else rescale(value, scale)
            for key, value in node.items()
        }
    return [rescale(item, scale) for item in node] if isinstance(node, list) else node


def point_prometheus(config: dict[str, Any], addresses: Addresses) -> None:
    for job in config["scrape_configs"]:
        name = job["job_name"]
        if name not in addresses.jobs:
            raise TimescaleError(f"prometheus.yml: job {name!r} has no address in the sandbox")
        job["static_configs"] = [{"targets": [addresses.jobs[name]]}]
    for alertmanager in config["alerting"]["alertmanagers"]:
        alertmanager["static_configs"] = [{"targets": [addresses.alertmanager]}]


def point_alertmanager(config: dict[str, Any], addresses: Addresses) -> None:
    config["global"]["telegram_api_url"] = addresses.telegram_api
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = urlsplit(webhook["url"])._replace(netloc=addresses.webhook).geturl()
            authorization = webhook["http_config"]["authorization"]
            authorization["credentials_file"] = str(addresses.credentials_file)
        for telegram in receiver.get("telegram_configs", []):
            telegram.update(bot_token=addresses.telegram_token, chat_id=addresses.telegram_chat)
