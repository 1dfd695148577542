"""Every configuration a bot ever had: numbered, and with who, when, why and what it changed."""

from collections.abc import Mapping
from typing import Any

from remediator.configuration.rendering import diff, warnings
from remediator.logs import log
from remediator.model import ConfigVersion, Origin
from remediator.store.transaction import Transaction


async def record(
    tx: Transaction,
    bot: str,
    config: Mapping[str, Any],
    config_sha: str,
    *,
    actor: str,
    reason: str,
    origin: Origin,
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Record a configuration; return its number, which is the newest's where it is the same.

    `overrides`: what it was rendered with; None: what the newest was. Nothing changes on the bot: it has the
    configuration from when its address moves (see `live`).
    """
    newest = await tx.version(bot)
    if overrides is None:
        overrides = newest.overrides if newest is not None else {}
    if newest is not None and newest.config_sha == config_sha and newest.overrides == overrides:
        return newest.version
    changes = diff(newest.config, config) if newest is not None else []
    version = ConfigVersion(
        bot=bot,
        version=newest.version + 1 if newest is not None else 1,
        config=config,
        config_sha=config_sha,
        overrides=overrides,
        at=tx.now,
        actor=actor[:255],
        reason=reason,
        origin=origin,
        diff=changes,
    )
    await tx.add_version(version)
    for warning in warnings(config):
        log.warning("a configuration is likely a mistake", bot=bot, version=version.version, warning=warning)
    facts: dict[str, Any] = {"version": version.version, "sha": config_sha, "origin": origin, "why": reason}
    await tx.audit("config.recorded", bot=bot, actor=actor, **facts)
    return version.version


def live(version: ConfigVersion) -> dict[str, Any]:
    """Return the bot's columns that change when its address moves to an instance of this version."""
    probe = version.config["probe"]
    return {
        "version": version.version,
        "config": dict(version.config),
        "config_sha": version.config_sha,
        "overrides": dict(version.overrides),
        "health_path": probe["health_path"],
        "mesh_path": probe["mesh_path"],
    }
