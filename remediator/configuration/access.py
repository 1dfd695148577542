"""Who may talk to a bot, in OpenClaw's words, and what is likely a mistake in it. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from templates import DmPolicy


def dm_policy(config: Mapping[str, Any]) -> DmPolicy:
    """Return what becomes of a direct message from somebody whom the configuration does not name."""
    chosen: DmPolicy | None = config.get("dm_policy")
    return chosen or ("allowlist" if config.get("allow_from") else "pairing")


def telegram(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of OpenClaw's channels.telegram that says who is answered.

    Ids are strings there. With `open` and no "*" among them every message is dropped.
    """
    policy = dm_policy(config)
    access: dict[str, Any] = {"dmPolicy": policy}
    if people := [*_strings(config, "allow_from"), *(["*"] if policy == "open" else [])]:
        access["allowFrom"] = people
    groups = _strings(config, "groups")
    if groups or config.get("group_policy"):
        access["groupPolicy"] = config.get("group_policy") or "allowlist"
    if groups:
        access["groups"] = {group: {"requireMention": True} for group in groups}
    if in_groups := _strings(config, "group_allow_from"):
        access["groupAllowFrom"] = in_groups
    return access


def warnings_of_access(config: Mapping[str, Any]) -> Iterator[str]:
    """Say where nobody can talk to the bot, or anybody, with the field and the remedy."""
    bot, policy = config["bot"], dm_policy(config)
    reached = _is_reached_in_groups(config)
    if policy == "open":
        yield (
            "dm_policy: open lets everybody who finds the bot command it, at your cost; to have it for some,"
            " name their numeric Telegram ids in allow_from and leave dm_policy out"
        )
    if policy == "pairing" and not config.get("allow_from") and not reached:
        yield (
            "dm_policy: nobody can talk to it yet. Who writes to it gets a code, which admits them with"
            f" `botctl pairing approve {bot} CODE`; or name their numeric Telegram ids in allow_from"
        )
    if (policy == "disabled" or (policy == "allowlist" and not config.get("allow_from"))) and not reached:
        yield (
            f"dm_policy: with {policy} and nobody named nobody can talk to it; leave dm_policy out and name"
            " people's numeric Telegram ids in allow_from"
        )
    if config.get("groups") and not reached:
        yield (
            "groups: it answers nobody in them; name people in group_allow_from or allow_from, or let all"
            " their members with group_policy: open"
        )


def _is_reached_in_groups(config: Mapping[str, Any]) -> bool:
    """Return whether somebody is answered in some group."""
    match config.get("group_policy"):
        case "disabled":
            return False
        case "open":
            return True
    senders = config.get("group_allow_from") or config.get("allow_from") or dm_policy(config) == "open"
    return bool(config.get("groups") and senders)


def _strings(config: Mapping[str, Any], field: str) -> list[str]:
    return [str(number) for number in config.get(field) or ()]
