"""Alertmanager's webhook, version 4: the payload as typed alerts. Pure."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from remediator.errors import Refused
from remediator.model import TIERS

BOT_LABEL: Final = "bot"
REMEDIATION_LABEL: Final = "remediation"
FIRST_TIER_LABEL: Final = "first_tier"


def _epoch(value: datetime) -> datetime:
    if value.year < 1970:
        raise ValueError("must be a time since 1970")
    return value


# Go writes a map that was never made as null.
Labels = Annotated[dict[str, str], BeforeValidator(lambda value: {} if value is None else value)]


class Alert(BaseModel):
    """One member of a payload. `fingerprint` + `startsAt` is the key of its episode."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Literal["firing", "resolved"]
    labels: Labels
    annotations: Labels = {}
    starts_at: Annotated[AwareDatetime, AfterValidator(_epoch)] = Field(alias="startsAt")
    fingerprint: Annotated[str, Field(min_length=1, max_length=64)]

    @property
    def name(self) -> str:
        """Return the name of the alert's rule, as much of it as the store can keep."""
        return self.labels.get("alertname", "")[:255]

    @property
    def bot(self) -> str:
        """Return the bot it is about; "" where it names none."""
        return self.labels.get(BOT_LABEL, "")

    @property
    def first_tier(self) -> str:
        """Return the tier that its rule wants tried first; "" where that is the ladder's to say."""
        tier = self.labels.get(FIRST_TIER_LABEL, "")
        return tier if tier in TIERS else ""

    @property
    def started(self) -> float:
        """Return `startsAt` in Unix seconds."""
        return self.starts_at.timestamp()

    @property
    def episode(self) -> tuple[str, float]:
        """Return the key that its resends and its resolution share with it."""
        return self.fingerprint, self.started


class Webhook(BaseModel):
    """The part of a payload that is used. The group's `status` says nothing about a member."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["4"]
    alerts: list[Alert]
    truncated: Annotated[int, Field(alias="truncatedAlerts", ge=0, lt=2**31)] = 0
    _malformed: tuple[Refused, ...] = PrivateAttr(())

    @property
    def malformed(self) -> tuple[Refused, ...]:
        """Return what is wrong with each member that was left out."""
        return self._malformed


def parse(payload: object) -> Webhook:
    """Return the payload as typed alerts; Refused (invalid) names the first field that is wrong.

    A member that is no alert never takes its neighbours along: it is left out, and told in `malformed`.
    """
    try:
        return Webhook.model_validate(payload)
    except ValidationError as error:
        whole = _refused(error)
    members = payload.get("alerts") if isinstance(payload, dict) else None
    alerts, malformed = _split(members if isinstance(members, list) else [])
    if not isinstance(payload, dict) or not alerts:
        raise whole
    try:
        webhook = Webhook.model_validate({**payload, "alerts": alerts})
    except ValidationError as error:
        raise _refused(error) from None
    webhook._malformed = malformed
    return webhook


def _split(members: list[object]) -> tuple[list[Alert], tuple[Refused, ...]]:
    """Return the members that are alerts, and what is wrong with each other one."""
    alerts, malformed = [], []
    for number, member in enumerate(members):
        try:
            alerts.append(Alert.model_validate(member))
        except ValidationError as error:
            malformed.append(_refused(error, f"alerts.{number}"))
    return alerts, tuple(malformed)


def _refused(error: ValidationError, within: str = "") -> Refused:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(filter(None, (within, *(str(part) for part in first["loc"]))))
    return Refused(
        "invalid",
        f"no Alertmanager webhook: {first['msg']}",
        field=field or "body",
        remedy="send Alertmanager's webhook payload, version 4, as JSON",
    )
