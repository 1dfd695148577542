"""What the API is sent, and how a fault in it is said: the field, what is wrong, what to do.

In JSON the names are the seed's: botName, botType, telegramToken.
"""

import json
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from starlette.requests import Request

from remediator.errors import RequestError

ALERTS_LIMIT: Final = 8 * 1024 * 1024  # bytes; some thousand alerts
BODY_LIMIT: Final = 64 * 1024


def _bot_name(value: str) -> str:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if not value or len(value) > 63 or value.startswith("-") or not set(value) <= allowed:
        raise ValueError("must have 1 to 63 of a-z, 0-9 and -, and not begin with -")
    return value


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not 1 <= len(text) <= 256 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be 1 to 256 printable ASCII characters without spaces, as BotFather gave it")
    return value


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class DeployRequest(_Body):
    """A new bot. The token goes to SSM Parameter Store as a SecureString and nowhere else."""

    bot_name: Annotated[str, AfterValidator(_bot_name)] = Field(examples=["my-assistant"])
    bot_type: str = Field(examples=["support"])
    telegram_token: Annotated[SecretStr, AfterValidator(_token)] = Field(examples=["bot_token_here"])
    environment: Literal["production", "staging", "development"]
    overrides: dict[str, Any] = Field({}, description="fields of the template that differ for this bot")


class RecoverRequest(_Body):
    """The tier to begin at; harder ones follow if it does not cure."""

    method: Literal["restart", "reboot", "redeploy"] = "restart"


class SpokenRequest(_Body):
    """Who says so, and why; both are kept in the audit trail."""

    by: Annotated[str, Field(max_length=100)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


class ConfigRequest(_Body):
    """Merged into the bot's overrides, as JSON merge patch (RFC 7396) does it: null takes one back."""

    overrides: dict[str, Any] = Field(examples=[{"heartbeat": "45m", "probe": {"mesh_path": "/ready"}}])
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(max_length=100)] = ""
    apply: StrictBool = Field(False, description="redeploy the bot with it now")


class RedeployRequest(_Body):
    """Without `version`: the newest of the bot's configurations."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(max_length=100)] = ""
    version: Annotated[StrictInt, Field(ge=1)] | None = None


class RolloutRequest(_Body):
    """Which bots: those named, of a template, of an environment; where several are given, all must fit."""

    bots: Annotated[list[str], Field(min_length=1, max_length=5000)] | None = None
    template: str | None = None
    environment: Literal["production", "staging", "development"] | None = None
    batch_size: Annotated[StrictInt, Field(ge=1)] = 1
    max_unavailable: Annotated[StrictInt, Field(ge=0, description="more ill bots among them stop it")] = 1
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(max_length=100)] = ""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.selection:
            raise ValueError("names no bots: give bots, template or environment")
        return self

    @property
    def selection(self) -> dict[str, Any]:
        chosen = {"bots": self.bots, "template": self.template, "environment": self.environment}
        return {key: value for key, value in chosen.items() if value is not None}


class RollbackRequest(_Body):
    """Without `version`: to the one before the one that runs."""

    version: Annotated[StrictInt, Field(ge=1)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(max_length=100)] = ""


class ReconcileRequest(_Body):
    """A dry run, unless `apply` is true."""

    apply: StrictBool = False
    by: Annotated[str, Field(max_length=100)] = ""


class HoldRequest(_Body):
    """Without `endsAt` a pause, until it is lifted; with it a maintenance window."""

    scope: Literal["fleet", "template", "environment", "bot"]
    name: str = ""
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(max_length=100)] = ""
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None


class BackupRequest(_Body):
    """Who will be able to open it: age recipients, whose keys never leave their owners."""

    recipients: Annotated[list[str], Field(min_length=1, max_length=20)] = Field(examples=[["age1…"]])
    by: Annotated[str, Field(max_length=100)] = ""


class BudgetRequest(_Body):
    """US dollars a month."""

    usd: Annotated[float, Field(gt=0, le=1e9)]
    refuse: bool = False
    by: Annotated[str, Field(max_length=100)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


class AdoptRequest(_Body):
    """An instance that runs a bot already. `address`: HOST or HOST:PORT, where it is not its own."""

    bot_name: Annotated[str, AfterValidator(_bot_name)] = Field(examples=["my-assistant"])
    bot_type: str = Field(examples=["support"])
    environment: Literal["production", "staging", "development"]
    instance_id: Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$", examples=["i-0123456789abcdef0"])]
    address: Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9.-]*(:[0-9]{1,5})?$")] = ""
    telegram_token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    overrides: dict[str, Any] = {}
    by: Annotated[str, Field(max_length=100)] = ""


class ReapRequest(_Body):
    """Orphans by id, each named. Without `apply` it is only said what would be done."""

    instance_ids: Annotated[list[str], Field(max_length=100)] = []
    volume_ids: Annotated[list[str], Field(max_length=100)] = []
    allocation_ids: Annotated[list[str], Field(max_length=100)] = []
    apply: bool = False
    by: Annotated[str, Field(max_length=100)] = ""


M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, limit: int) -> Any:
    """The body as JSON. RequestError 413 past `limit` bytes, 400 where it is no JSON."""
    remedy = f"send at most {limit} bytes"
    if int(request.headers.get("content-length") or 0) > limit:
        raise RequestError(413, "the body is too large", field="body", remedy=remedy)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestError(413, "the body is too large", field="body", remedy=remedy)
    try:
        data = json.loads(body)
        if b"\\ud" in body.lower():  # may be half of a surrogate pair: JSON can spell it, UTF-8 cannot
            json.dumps(data, ensure_ascii=False).encode()
        return data
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be decoded"
        raise RequestError(400, f"no JSON: {what}", field="body", remedy="send a JSON object") from None


async def read_body(request: Request, model: type[M]) -> M:
    """The body as that model. RequestError 400 where it is no object, 422 naming the field."""
    data = await read_json(request, BODY_LIMIT)
    if not isinstance(data, dict):
        raise RequestError(400, "must be a JSON object", field="body", remedy="send {…}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        remedy = {
            "missing": f"add {field}",
            "extra_forbidden": f"remove it; known fields are {known}",
        }.get(first["type"], "correct it and send the request again")
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(422, message, field=field, remedy=remedy) from None


def read_number(request: Request, name: str, default: float, most: float) -> float:
    """A query parameter from 0 to `most`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise RequestError(422, f"is {text!r}", field=name, remedy=f"use a number from 0 to {most:g}")
    return number
