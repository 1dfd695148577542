"""The exporter's settings: one frozen object, made from the command line."""

import argparse
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from exporter.durations import parse_duration
from exporter.masking import masked_url
from exporter.result import MAX_BODY
from exporter.score import Thresholds
from exporter.sharding import ordinal
from exporter.targets import SHORTEST_INTERVAL, Target

_LONGEST = parse_duration("1d")  # of timeouts and intervals


@dataclass(frozen=True, slots=True)
class Settings:
    """The exporter's settings. Times are in seconds; `max_in_flight` 0 is what file descriptors allow.

    The host of `listen` is empty for all addresses, of IPv4 and IPv6.
    """

    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = field(default=(), repr=False)  # there may be a password in one
    url_token_file: Path | None = None
    refresh: float = 15
    shard: int = 0
    total_shards: int = 1
    web_config: Path | None = None
    listen: tuple[str, int] = ("127.0.0.1", 9817)
    interval: float = 60
    template_intervals: Mapping[str, float] = field(default_factory=dict)
    timeout: float = 10
    max_in_flight: int = 0
    max_body: int = MAX_BODY
    keep_alive: bool = False
    transport: str = "auto"
    tls_ca_file: Path | None = None
    tls_verify: bool = True
    thresholds: Thresholds = field(default_factory=Thresholds)
    log_level: str = "info"
    log_format: str = "logfmt"

    def interval_of(self, target: Target) -> float:
        """Return the bot's own interval, else its template's, else everyone's, in seconds."""
        return target.interval or self.template_intervals.get(target.template, self.interval)


def package_version() -> str:
    """Return the version of the installed package, or "unknown" where it is not installed."""
    try:
        return version("bot-orchestrator")
    except PackageNotFoundError:
        return "unknown"


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; a wrong flag exits with status 2, and is named with its remedy."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    settings = Settings(
        files=tuple(flags["targets.file"]),
        urls=tuple(flags["targets.url"]),
        url_token_file=flags["targets.url_token_file"],
        refresh=flags["targets.refresh"],
        shard=flags["shard"],
        total_shards=flags["total_shards"],
        web_config=flags["web.config.file"],
        listen=flags["web.listen_address"],
        interval=flags["probe.interval"],
        template_intervals=dict(flags["probe.template_interval"]),
        timeout=flags["probe.timeout"],
        max_in_flight=flags["probe.max_in_flight"],
        max_body=flags["probe.max_body"],
        keep_alive=flags["probe.keep_alive"],
        transport=flags["probe.transport"],
        tls_ca_file=flags["probe.tls_ca_file"],
        tls_verify=not flags["probe.tls_insecure"],
        thresholds=Thresholds(
            low=flags["score.low"],
            critical=flags["score.critical"],
            streak=flags["score.streak"],
            latency_full=flags["score.latency_full"],
            latency_zero=flags["score.latency_zero"],
        ),
        log_level=flags["log.level"],
        log_format=flags["log.format"],
    )
    if problem := _contradiction(settings):
        parser.error(problem)
    return settings


def _contradiction(settings: Settings) -> str:
    """Explain what is wrong with the flags together; empty if they fit."""
    thresholds = settings.thresholds
    if not settings.files and not settings.urls:
        return "no targets: name a file with --targets.file or a service with --targets.url"
    if settings.url_token_file and not settings.urls:
        return "argument --targets.url-token-file: is only used with --targets.url"
    if settings.tls_ca_file and not settings.tls_verify:
        return "argument --probe.tls-ca-file: is not used with --probe.tls-insecure; drop one of them"
    if settings.shard >= settings.total_shards:
        return f"argument --shard: {settings.shard} is not below --total-shards {settings.total_shards}"
    if thresholds.critical > thresholds.low:
        return "argument --score.critical: must not be above --score.low"
    if thresholds.latency_zero <= thresholds.latency_full:
        return "argument --score.latency-zero: must be longer than --score.latency-full"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bot-exporter",
        description="Probes every bot and publishes health scores and latencies for Prometheus.",
        epilog="Durations are written as in Prometheus: 250ms, 60s, 1m30s.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bot-exporter {package_version()}")
    for add in (_add_targets, _add_sharding, _add_web, _add_probe, _add_score, _add_log):
        add(parser)
    return parser


def _add_targets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("targets (at least one file or URL)")
    group.add_argument(
        "--targets.file", action="append", default=[], metavar="PATH",
        help="file_sd file or glob, YAML or JSON; repeatable",
    )  # fmt: skip
    group.add_argument(
        "--targets.url", action="append", default=[], type=_checked(_url), metavar="URL",
        help="http_sd service; repeatable. Logs mask a user and the values of a query in it",
    )  # fmt: skip
    group.add_argument(
        "--targets.url-token-file", type=Path, metavar="PATH",
        help="file with the bearer token for --targets.url, read at each request",
    )  # fmt: skip
    _value(group, "--targets.refresh", _duration, "15s", "time between two reads of files and services")


def _add_sharding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sharding, as kube-state-metrics does it")
    _value(group, "--shard", _shard, "0", "which shard this is, from 0; auto is the ordinal in the host name")
    _value(group, "--total-shards", _positive, "1", "how many exporters share the fleet")


def _add_web(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("web")
    group.add_argument(
        "--web.config.file", type=Path, metavar="PATH",
        help="TLS and basic auth, in the format of Prometheus's exporter-toolkit",
    )  # fmt: skip
    text = "HOST:PORT to serve on, or :PORT for every address; port 0 is any"
    _value(group, "--web.listen-address", _address, "127.0.0.1:9817", text)


def _add_probe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("probe")
    _value(group, "--probe.interval", _interval, "60s", "time between two probes of a bot")
    group.add_argument(
        "--probe.template-interval", action="append", default=[], type=_checked(_template_interval),
        metavar="TEMPLATE=VALUE",
        help="the same for bots of this template; repeatable. A target's __probe_interval__ comes first",
    )  # fmt: skip
    _value(group, "--probe.timeout", _duration, "10s", "time each endpoint has to answer")
    _value(group, "--probe.max-in-flight", _count, "0", "probes at once; 0 is what file descriptors allow")
    _value(group, "--probe.max-body", _positive, str(MAX_BODY), "how many bytes of an answer are read")
    _choice(group, "--probe.transport", ("auto", "streams"), "auto")
    group.add_argument(
        "--probe.keep-alive", action="store_true",
        help="keep connections open between probes (default: one connection a probe)",
    )  # fmt: skip
    group.add_argument(
        "--probe.tls-ca-file", type=Path, metavar="PATH",
        help="certificates that bots over https are checked against (default: the system's)",
    )  # fmt: skip
    group.add_argument(
        "--probe.tls-insecure", action="store_true", help="do not check certificates (default: check)"
    )


def _add_score(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("score")
    _value(group, "--score.low", _points, "50", "score below which people are told")
    _value(group, "--score.critical", _points, "20", "score below which a bot is recovered")
    _value(group, "--score.streak", _positive, "3", "consecutive failures from which a bot is recovered")
    _value(group, "--score.latency-full", _duration, "500ms", "answers up to this fast score full points")
    _value(group, "--score.latency-zero", _duration, "5s", "answers this slow score no points for speed")


def _add_log(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("log")
    _choice(group, "--log.level", ("debug", "info", "warning", "error"), "info")
    _choice(group, "--log.format", ("logfmt", "json"), "logfmt")


def _value(
    group: argparse._ArgumentGroup, name: str, kind: Callable[[str], object], default: str, text: str
) -> None:
    group.add_argument(
        name, type=_checked(kind), default=default, metavar="VALUE", help=f"{text} (default: %(default)s)"
    )


def _choice(group: argparse._ArgumentGroup, name: str, choices: tuple[str, ...], default: str) -> None:
    group.add_argument(name, choices=choices, default=default, help="(default: %(default)s)")


def _checked(kind: Callable[[str], object]) -> Callable[[str], object]:
    """Convert as `kind` does: argparse prints the text of ArgumentTypeError, but not that of ValueError."""

    def convert(text: str) -> object:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _duration(text: str) -> float:
    seconds = parse_duration(text)
    if not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f'"{text}" is out of range: use 1ms to 1d')
    return seconds


def _interval(text: str) -> float:
    seconds = parse_duration(text)
    if not SHORTEST_INTERVAL <= seconds <= _LONGEST:
        raise ValueError(f'"{text}" is out of range: use 100ms to 1d')
    return seconds


def _template_interval(text: str) -> tuple[str, float]:
    template, equals, interval = text.partition("=")
    if not template or not equals:
        raise ValueError(f'"{text}" names no template: write TEMPLATE=INTERVAL, such as support=30s')
    return template, _interval(interval)


def _shard(text: str) -> int:
    return ordinal(socket.gethostname()) if text == "auto" else _count(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f'"{text}" is no count: use a whole number from 0')
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f'"{text}" is no count: use a whole number from 1')
    return int(text)


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1
    if not 0 <= points <= 100:
        raise ValueError(f'"{text}" is no score: use a number from 0 to 100')
    return points


def _url(text: str) -> str:
    problem = f'"{masked_url(text)}" is no URL: write http://HOST:PORT/PATH'
    try:
        url = urlsplit(text)
        sound = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        raise ValueError(problem) from None
    if not sound:
        raise ValueError(problem)
    return text


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f'"{text}" is no address: write HOST:PORT, such as 127.0.0.1:9817')
    return host.strip("[]"), int(port)
