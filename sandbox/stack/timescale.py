"""The repository's own `alerts/` on a faster clock: durations divided, this machine's addresses put in.

There is no second copy of rules or routing: the real files are read, changed as data, and written elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from exporter.durations import DURATION, format_duration, parse_duration

ALERTS = Path(__file__).parents[2] / "alerts"
PERIODS = ("scrape_interval", "scrape_timeout", "evaluation_interval", "interval")
WAITS = ("for", "keep_firing_for", "group_wait", "group_interval", "repeat_interval", "resolve_timeout")


class TimescaleError(ValueError):
    """A file does not have the expected form; the message names the place."""


@dataclass(frozen=True, slots=True)
class Timescale:
    """A clock `factor` times as fast. Floors, in seconds, keep a loaded machine out of trouble; 0 stays 0."""

    factor: float
    period_floor: float = 1.0  # of scrapes, evaluations and probes
    wait_floor: float = 0.5  # of `for`, group_wait and their like
    range_floor: float = 5.0  # of PromQL ranges: several scrapes must lie in one

    def seconds(self, seconds: float, floor: float) -> float:
        """Return a duration on this clock, in seconds: the floor at least, and no longer than it was."""
        return seconds and min(seconds, max(seconds / self.factor, floor))

    def period(self, text: str) -> str:
        """Rewrite the duration of something periodic."""
        return format_duration(self.seconds(parse_duration(text), self.period_floor))

    def wait(self, text: str) -> str:
        """Rewrite the duration of a wait."""
        return format_duration(self.seconds(parse_duration(text), self.wait_floor))

    def promql(self, expression: str) -> str:
        """Rewrite the ranges, subqueries and offsets of an expression."""

        def ranges(selector: re.Match[str]) -> str:
            return re.sub(DURATION, self._range, selector[0])

        return re.sub(rf"\[\s*{DURATION}\s*(?::[^\]]*)?\]|\boffset\s+-?{DURATION}", ranges, expression)

    def _range(self, duration: re.Match[str]) -> str:
        return format_duration(self.seconds(parse_duration(duration[0]), self.range_floor))


FAST: Final = Timescale(60)  # an hour in a minute


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the services (host:port), and the URL of Telegram's API."""

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
    """Read a YAML file; TimescaleError where that fails."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TimescaleError(f"{path}: {error}") from error


def rescale(node: Any, scale: Timescale) -> Any:
    """Return the document with its durations on the faster clock; TimescaleError names what is none."""
    changes: dict[str, Callable[[str], str]] = {"expr": scale.promql}
    changes |= dict.fromkeys(PERIODS, scale.period) | dict.fromkeys(WAITS, scale.wait)
    if isinstance(node, dict):
        try:
            return {
                key: changes[key](str(value)) if key in changes else rescale(value, scale)
                for key, value in node.items()
            }
        except TimescaleError:
            raise
        except ValueError as error:
            raise TimescaleError(str(error)) from error
    return [rescale(item, scale) for item in node] if isinstance(node, list) else node


def point_prometheus(config: dict[str, Any], addresses: Addresses) -> None:
    """Put the addresses into prometheus.yml."""
    for job in config["scrape_configs"]:
        name = job["job_name"]
        if name not in addresses.jobs:
            raise TimescaleError(f"prometheus.yml: job {name!r} has no address in the sandbox")
        job["static_configs"] = [{"targets": [addresses.jobs[name]]}]
    for alertmanager in config["alerting"]["alertmanagers"]:
        alertmanager["static_configs"] = [{"targets": [addresses.alertmanager]}]


def point_alertmanager(config: dict[str, Any], addresses: Addresses) -> None:
    """Put the addresses and credentials into alertmanager.yml."""
    config["global"]["telegram_api_url"] = addresses.telegram_api
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = urlsplit(webhook["url"])._replace(netloc=addresses.webhook).geturl()
            authorization = webhook["http_config"]["authorization"]
            authorization["credentials_file"] = str(addresses.credentials_file)
        for telegram in receiver.get("telegram_configs", []):
            telegram.update(bot_token=addresses.telegram_token, chat_id=addresses.telegram_chat)
