"""Bodies of requests: a fault in one is said by its field, what is wrong and what to do.

In JSON the names are the seed's: botName, botType, telegramToken.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic.alias_generators import to_camel

from remediator.provisioning.adoption_check import AdoptSpec
from remediator.provisioning.deploy import DeploySpec, valid_bot_name, valid_token
from remediator.provisioning.pairing import valid_code
from remediator.rollouts.begin import RolloutSpec
from templates import DmPolicy, Environment, Fallbacks, GroupPolicy, Groups, People

BotName = Annotated[str, AfterValidator(valid_bot_name)]
Token = Annotated[SecretStr, AfterValidator(valid_token)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class DeployRequest(_Body):
    """A new bot. The token goes to SSM Parameter Store as a SecureString and nowhere else."""

    bot_name: BotName = Field(examples=["my-assistant"])
    bot_type: str = Field(examples=["support"])
    telegram_token: Token = Field(examples=["bot_token_here"])
    environment: Environment
    overrides: dict[str, Any] = Field({}, description="fields of the template that differ for this bot")
    dm_policy: DmPolicy | None = Field(None, description="as in overrides; so are those below")
    allow_from: People | None = Field(None, description="Telegram ids of who may write to it")
    group_policy: GroupPolicy | None = None
    groups: Groups | None = Field(None, description="Telegram ids of groups in which it answers")
    group_allow_from: People | None = None
    fallbacks: Fallbacks | None = Field(None, description="models to be asked in turn where one fails")

    @model_validator(mode="after")
    def _says_nothing_twice(self) -> Self:
        if twice := self._named.keys() & self.overrides.keys():
            raise ValueError(f"{min(twice)} is given twice, in overrides and beside them: leave one out")
        return self

    @property
    def _named(self) -> dict[str, Any]:
        """Return the overrides that have a place of their own in the body."""
        names = ("dm_policy", "allow_from", "group_policy", "groups", "group_allow_from", "fallbacks")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def spec(self) -> DeploySpec:
        """Return what is to be deployed."""
        bot = self.bot_name, self.bot_type, self.environment
        return DeploySpec(*bot, self.telegram_token, {**self.overrides, **self._named})


class RecoverRequest(_Body):
    """The tier to begin at; harder ones follow if it does not cure."""

    method: Literal["restart", "reboot", "redeploy"] = "restart"


class DecisionRequest(_Body):
    """The person who decides, and the reason; both are kept in the audit trail."""

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
    """The bots named, of a template, of an environment; where several are given, all must fit."""

    bots: Annotated[list[str], Field(min_length=1, max_length=5000)] | None = None
    template: str | None = None
    environment: Environment | None = None
    batch_size: Annotated[StrictInt, Field(ge=1)] = 1
    max_unavailable: Annotated[StrictInt, Field(ge=0, description="more ill bots among them stop it")] = 1
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    by: Annotated[str, Field(max_length=100)] = ""

    @model_validator(mode="after")
    def _names_bots(self) -> Self:
        if not self.selection:
            raise ValueError("names no bots: give bots, template or environment")
        return self

    @property
    def selection(self) -> dict[str, Any]:
        """Return those of bots, template and environment that are not null."""
        fields = {"bots": self.bots, "template": self.template, "environment": self.environment}
        return {key: value for key, value in fields.items() if value is not None}

    def spec(self) -> RolloutSpec:
        """Return what is to be begun."""
        return RolloutSpec(self.selection, self.batch_size, self.max_unavailable, self.reason)


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
    """The age recipients that will be able to open it; their keys never leave their owners."""

    recipients: Annotated[list[str], Field(min_length=1, max_length=20)] = Field(examples=[["age1…"]])
    by: Annotated[str, Field(max_length=100)] = ""


class BudgetRequest(_Body):
    """US dollars a month."""

    usd: Annotated[float, Field(gt=0, le=1e9)]
    refuse: bool = False
    by: Annotated[str, Field(max_length=100)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


class PairingRequest(_Body):
    """The code that the bot gave to whoever wrote to it."""

    code: Annotated[str, AfterValidator(valid_code)] = Field(examples=["ABCD2345"])
    by: Annotated[str, Field(max_length=100)] = ""


class AdoptRequest(_Body):
    """An instance that runs a bot already. `address`: HOST or HOST:PORT, where it is not its own."""

    bot_name: BotName = Field(examples=["my-assistant"])
    bot_type: str = Field(examples=["support"])
    environment: Environment
    instance_id: Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$", examples=["i-0123456789abcdef0"])]
    address: Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9.-]*(:[0-9]{1,5})?$")] = ""
    telegram_token: Token | None = None
    overrides: dict[str, Any] = {}
    by: Annotated[str, Field(max_length=100)] = ""

    def spec(self) -> AdoptSpec:
        """Return what is to be adopted."""
        bot = self.bot_name, self.bot_type, self.environment
        return AdoptSpec(*bot, self.instance_id, self.address, self.overrides)


class ReapRequest(_Body):
    """Orphans by id, each named. Without `apply` the answer only says what would be done."""

    instance_ids: Annotated[list[str], Field(max_length=100)] = []
    volume_ids: Annotated[list[str], Field(max_length=100)] = []
    allocation_ids: Annotated[list[str], Field(max_length=100)] = []
    apply: bool = False
    by: Annotated[str, Field(max_length=100)] = ""
