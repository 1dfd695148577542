"""The only reader of the environment: `BOT_REMEDIATOR_*`, as one frozen object."""

import ipaddress
import re
import shutil
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import templates
from exporter.durations import format_duration, parse_duration
from remediator.modes import Rule, parse_rule
from templates.instance_types import INSTANCE_TYPES, unknown_type

PREFIX: Final = "BOT_REMEDIATOR_"
SSH_USER: Final = "bot-restart"  # that our cloud-init makes
_PUBLIC_KEY: Final = r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n]*)?"


def seconds(value: object) -> float:
    """Return the seconds of a duration as Prometheus writes them; a number is in seconds already."""
    return float(value) if isinstance(value, int | float) else parse_duration(str(value))


def _listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"must be HOST:PORT such as 127.0.0.1:19000, not {value!r}")
    return host.strip("[]"), int(port)


def _public_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if value and not is_url:
        raise ValueError(f"must be a URL such as https://bots.example.org, not {value!r}")
    return value


def _bucket(value: str) -> str:
    if value and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{2,62}(/[A-Za-z0-9_.-]+)*", value):
        raise ValueError(f"must be BUCKET or BUCKET/PREFIX such as bot-files-example/types, not {value!r}")
    return value


def _host_names(values: list[str]) -> list[str]:
    for value in values:
        if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", value):
            raise ValueError(f"must be host names such as bots.example.org, without ports, not {value!r}")
    return [value.lower() for value in values]


def _split(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _rules(value: object) -> object:
    rules = _split(value)
    return [parse_rule(str(rule)) for rule in rules] if isinstance(rules, list) else value


Duration = Annotated[float, BeforeValidator(seconds)]
StringList = Annotated[list[str], NoDecode, BeforeValidator(_split)]
HostNames = Annotated[StringList, AfterValidator(_host_names)]
Secret = SecretStr | None
LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(ValueError):
    """A setting is wrong; the message names the environment variable."""


class Settings(BaseSettings):
    """Durations are in seconds once parsed. Secrets print as stars."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", validate_default=True)

    listen: Annotated[tuple[str, int], NoDecode, BeforeValidator(_listen)] = Field(
        ("127.0.0.1", 19000), description="host:port to serve on (port 0 picks a free one)"
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        "", description="how people reach this service; used in messages"
    )
    allowed_hosts: HostNames = Field(
        [], description="names of this service, besides its addresses, localhost and PUBLIC_URL's host"
    )
    token: Secret = Field(
        None, description="bearer token of the API; without one it is made, and kept in STATE_DIR"
    )
    token_file: Path | None = Field(None, description="file that holds the token")
    state_dir: Path | None = Field(
        None, description="folder of the token that is made (default: the SQLite database's)"
    )
    open_metrics: bool | Literal["loopback"] = Field(
        "loopback",
        description="serve /metrics and /sd without the token: true, false, or if LISTEN is loopback",
    )
    database_url: str = Field("sqlite:///remediator.db", description="where the state is kept", repr=False)
    templates_dir: Path = Field(templates.BUNDLED, description="folder of bot types (*.yaml)")
    log_level: LogLevel = Field("info", description="least severe event logged")
    log_format: Literal["logfmt", "json"] = Field("logfmt", description="how an event is written")

    aws_region: str = Field("us-west-1", description="region of the fleet")
    aws_endpoint_url: str | None = Field(None, description="another EC2/SSM endpoint, such as the sandbox's")
    aws_concurrency: int = Field(50, ge=1, le=200, description="AWS calls in flight at once")
    aws_timeout: Duration = Field(15, description="how long an answer of AWS is waited for")
    aws_poll: Duration = Field(3, description="how often instance states are read while a run waits for one")
    ami: str = Field(
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        description="image id for x86_64, or the SSM public parameter that names it",
    )
    ami_arm64: str = Field(
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id",
        description="the same for arm64 (Graviton: t4g, m7g, c7g …)",
    )
    security_group_ids: StringList = Field([], description="security groups of a bot's instance")
    subnet_ids: StringList = Field(
        [], description="subnets of a bot's instance: the first that has room; none: the default VPC's"
    )
    zones: StringList = Field(
        [], description="the same by zone, such as us-west-1a, where no subnet is named"
    )
    instance_types: StringList = Field(
        [],
        description="other types, where no zone has room for a bot's own; smaller ones, and those of another"
        " architecture, are left out",
    )
    launch_burst: int = Field(5, ge=1, description="launches at once; EC2's own limit is 5")
    launch_refill: Duration = Field(0.5, description="one more may begin after each such time")
    launch_grace: Duration = Field(
        30, description="how long an instance is looked for whose launch was never answered"
    )
    snapshot_timeout: Duration = Field(3600, description="how long the final snapshot of a bot may take")
    orphan_interval: Duration = Field(300, description="how often it is looked for what nobody claims")
    orphan_grace: Duration = Field(3600, description="how long it must be an orphan before it may be reaped")
    files_bucket: Annotated[str, AfterValidator(_bucket)] = Field(
        "",
        description="S3 bucket (BUCKET or BUCKET/PREFIX, in AWS_REGION) of the templates' files; without one"
        " they go to SSM, up to 6 kB a template",
    )
    key_name: str | None = Field(None, description="EC2 key pair, such as bot-factory; none: no SSH key")
    instance_profile: str | None = Field(
        None, description="profile by which a bot reads its own secrets, such as bot-{bot}"
    )
    restarter: Literal["ssm", "ssh"] = Field("ssm", description="how a bot's service is restarted")
    ssh_user: str = Field(SSH_USER, description="user whose forced command is the restart")
    ssh_port: int = Field(22, ge=1, le=65535, description="port of a bot's SSH server")
    ssh_key_file: Path | None = Field(None, description="private key that may restart, and do nothing else")
    ssh_public_key: str | None = Field(None, description="its public half, which new instances accept")
    ssh_known_hosts_file: Path | None = Field(
        None, description="host keys, as ssh(1) keeps them; a line begins with the instance's id"
    )
    address: Literal["private", "public"] = Field("private", description="which address of a bot is probed")

    prometheus_url: str | None = Field(
        None, description="for the 24 h history, and to know when nothing that is seen can be trusted"
    )
    alertmanager_url: str | None = Field(None, description="whose silences are honoured")
    telegram_api_url: str = Field("https://api.telegram.org", description="base URL of the Bot API")
    telegram_token: Secret = Field(None, description="token of the bot that tells people")
    telegram_token_file: Path | None = Field(None, description="file that holds it")
    telegram_chat_id: str | None = Field(None, description="chat that is told")

    probe_timeout: Duration = Field(10, description="patience of one verification probe")
    verify_probes: int = Field(3, ge=1, description="healthy probes in a row that prove a cure")
    verify_interval: Duration = Field(5, description="pause between verification probes")
    restart_timeout: Duration = Field(300, description="restart: how long the bot may take to be healthy")
    reboot_timeout: Duration = Field(300, description="reboot: the same")
    redeploy_timeout: Duration = Field(900, description="redeploy and deploy: launch to healthy")
    activation: Duration = Field(
        60, description="how long a bot that stands by may take to see that the token is its own, and restart"
    )
    soak_window: Duration = Field(300, description="how long a redeployed bot must be well to be kept")
    rollback_window: Duration = Field(
        3600, description="how long the instance before is kept, stopped, after a redeploy"
    )
    elastic_ip: bool = Field(False, description="give each bot an Elastic IP, which moves with it")
    turn_limit: Duration = Field(1800, description="a turn that runs for longer is stuck")
    queue_looks: bool = Field(
        True, description="ask Telegram, with a bot's own token, how many updates wait for the bot"
    )
    queue_interval: Duration = Field(180, description="how often each bot's queue is looked at")
    queue_concurrency: int = Field(5, ge=1, description="queues looked at at once")
    gate_interval: Duration = Field(15, description="how often a run that is held back asks again")
    stability_window: Duration = Field(30, description="how long a bot must stay healthy to be cured")
    storm_cooldown: Duration = Field(120, description="how long a fleet must be well before a storm is over")
    dependency_min: int = Field(
        3, ge=2, description="bots of one zone, template or environment, all ill: it is that, not the bots"
    )
    relapse_after: Duration = Field(
        300, description="an alert still sent so long after a cure is a new illness"
    )
    fleet_max_unhealthy_ratio: float = Field(
        0.3, ge=0, le=1, description="above this share of ill bots nothing is done automatically"
    )
    fleet_min_unhealthy: int = Field(
        1, ge=1, description="so many ill bots never block, small as the fleet may be"
    )
    fleet_sample: int = Field(200, ge=10, description="most bots probed to judge the fleet")
    max_in_flight: int = Field(3, ge=1, description="bots being acted on at once")
    max_in_flight_per_template: int = Field(0, ge=0, description="the same of one template; 0: no other cap")
    max_in_flight_per_zone: int = Field(0, ge=0, description="the same in one zone; 0: no other cap")
    actions_burst: int = Field(10, ge=1, description="tiers begun at once, in the whole fleet")
    actions_refill: Duration = Field(30, description="one more tier may begin after each such time")
    max_attempts: int = Field(3, ge=1, description="tiers tried on a bot in 24 h, until it is quarantined")
    modes: Annotated[list[Rule], NoDecode, BeforeValidator(_rules)] = Field(
        [], description="[environment:]tier=auto, approve or shadow, such as production:redeploy=approve"
    )
    drift_interval: Duration = Field(
        300, description="how often instances are compared with what was declared"
    )
    approval_timeout: Duration = Field(1800, description="no answer for so long means no")
    cost_interval: Duration = Field(60, description="how often it is written down what bots cost and use")
    advice_interval: Duration = Field(3600, description="how often recommendations are made anew")
    prices_refresh: bool = Field(
        False, description="read the AWS pricing API once a day (it needs pricing:GetProducts)"
    )
    pricing_endpoint_url: str | None = Field(None, description="another endpoint of the pricing API")
    model_priced_as: StringList = Field(
        [], description="MODEL=MODEL: the name under which price lists have it, such as x/a-latest=x/a-4"
    )
    scaling_interval: Duration = Field(60, description="how often groups that scale are looked at")
    scaling_patience: Duration = Field(300, description="how long a group is short before it grows")
    scaling_calm: Duration = Field(1800, description="how long it has more than it needs before it shrinks")
    lease: Duration = Field(30, description="a replica silent for so long has its runs taken over")

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, data: Any) -> Any:
        """Read `X_FILE` in place of `X`, as Docker and systemd hand secrets over."""
        for name in ("token", "telegram_token"):
            path = data.get(f"{name}_file")
            if path and data.get(name):
                raise ValueError(f"{PREFIX}{name.upper()} and its _FILE are both set; keep one")
            if path:
                data[name] = _secret_from(Path(path), f"{PREFIX}{name.upper()}_FILE")
        return data

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.token is not None and not self.token.get_secret_value().strip():
            raise ValueError(f"{PREFIX}TOKEN: is empty; unset it or give it a value")
        for name in self.instance_types:
            if name not in INSTANCE_TYPES:
                raise ValueError(f"{PREFIX}INSTANCE_TYPES: {name} {unknown_type(name)}")
        self._check_images()
        if self.subnet_ids and self.zones:
            raise ValueError(
                f"{PREFIX}ZONES: SUBNET_IDS are set, and a subnet has its zone; unset one of them"
            )
        if wrong := [pair for pair in self.model_priced_as if "/" not in pair.partition("=")[2]]:
            raise ValueError(f"{PREFIX}MODEL_PRICED_AS: {wrong[0]!r} must be MODEL=MODEL, provider/name each")
        self._check_restarter()
        if (self.telegram_token is None) != (self.telegram_chat_id is None):
            raise ValueError(f"{PREFIX}TELEGRAM_TOKEN and _CHAT_ID go together; set both or none")
        return self

    def _check_images(self) -> None:
        """Refuse an image whose name says that it is of the other architecture."""
        for name, other, image, wrong in (
            ("AMI", "AMI_ARM64", self.ami, "/arm64/"),
            ("AMI_ARM64", "AMI", self.ami_arm64, "/amd64/"),
        ):
            if wrong in image:
                raise ValueError(f"{PREFIX}{name}: is an image of {wrong.strip('/')}; name it in {other}")

    def _check_restarter(self) -> None:
        if self.restarter == "ssm":
            return
        for name in ("ssh_key_file", "ssh_public_key", "ssh_known_hosts_file"):
            if getattr(self, name) is None:
                raise ValueError(f"{PREFIX}{name.upper()}: is not set; RESTARTER=ssh needs it")
        if self.ssh_key_file is not None and not self.ssh_key_file.is_file():
            raise ValueError(f"{PREFIX}SSH_KEY_FILE: there is no file {self.ssh_key_file}")
        if not re.fullmatch(_PUBLIC_KEY, self.ssh_public_key or ""):
            raise ValueError(f"{PREFIX}SSH_PUBLIC_KEY: must be one line such as ssh-ed25519 AAAA… name")
        if shutil.which("ssh") is None:
            raise ValueError(f"{PREFIX}RESTARTER: there is no ssh here; install openssh-client, or use ssm")

    @property
    def metrics_are_open(self) -> bool:
        """Return whether /metrics and /sd are served without the token."""
        if self.open_metrics == "loopback":
            return _is_loopback(self.listen[0])
        return self.open_metrics

    def image_of(self, instance_type: str) -> str:
        """Return the image of a type's architecture. A type that is not known is an x86_64 one."""
        kind = INSTANCE_TYPES.get(instance_type)
        return self.ami_arm64 if kind is not None and kind.architecture == "arm64" else self.ami

    def profile_of(self, bot: str) -> str | None:
        """Return the bot's own profile, which keeps bots from each other's secrets: see iam/."""
        return self.instance_profile.replace("{bot}", bot) if self.instance_profile else None


def _secret_from(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{variable}: cannot read {path}: {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(**overrides: object) -> Settings:
    """Read the environment, with overrides. Raise SettingsError, which names each variable that is wrong."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = PREFIX + str(problem["loc"][0]).upper() + ": " if problem["loc"] else ""
            lines.append(name + problem["msg"].removeprefix("Value error, "))
        raise SettingsError("\n".join(lines)) from None


def describe() -> list[tuple[str, str, str]]:
    """Return (variable, default, what it is) of each setting, for `--help` and the table in the docs."""
    return [
        (PREFIX + name.upper(), _default_text(field.default, field.metadata), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _default_text(default: object, metadata: list[object]) -> str:
    if default is None or default == []:
        return ""
    if default == templates.BUNDLED:
        return "the bundled ones"
    if isinstance(default, tuple):
        return ":".join(map(str, default))
    if any(getattr(item, "func", None) is seconds for item in metadata):
        return format_duration(float(str(default)))
    return str(default).lower() if isinstance(default, bool) else str(default)
