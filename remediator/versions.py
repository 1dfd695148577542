"""Every configuration a bot ever had: numbered, and with who, when, why and what it changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.configuration import diff
from remediator.model import ConfigVersion, Origin
from remediator.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Versions:
    tx: Transaction

    async def of(self, bot: str) -> list[ConfigVersion]:
        """Oldest first."""
        return await self.tx.versions(bot)

    async def get(self, bot: str, number: int) -> ConfigVersion | None:
        return await self.tx.version(bot, number)

    async def newest(self, bot: str) -> ConfigVersion | None:
        return await self.tx.version(bot)


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
    """The number of this configuration: that of the newest where it is the same, otherwise a new one.

    `overrides`: what it was rendered with; None: what the newest was.
    Nothing changes on the bot: it has the configuration from when its address moves (see `live`).
    """
    newest = await Versions(tx).newest(bot)
    if overrides is None:
        overrides = newest.overrides if newest is not None else {}
    if newest is not None and newest.config_sha == config_sha and newest.overrides == overrides:
        return newest.version
    changes = diff(newest.config, config) if newest is not None else []
    made = ConfigVersion(
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
    await tx.add_version(made)
    facts: dict[str, Any] = {"version": made.version, "sha": config_sha, "origin": origin, "why": reason}
    await tx.audit("config.recorded", bot=bot, actor=actor, **facts)
    return made.version


def live(version: ConfigVersion) -> dict[str, Any]:
    """What becomes so on the bot when its address moves to an instance of this version (`tx.change_bot`)."""
    probe = version.config["probe"]
    return {
        "version": version.version,
        "config": dict(version.config),
        "config_sha": version.config_sha,
        "overrides": dict(version.overrides),
        "health_path": probe["health_path"],
        "mesh_path": probe["mesh_path"],
    }
