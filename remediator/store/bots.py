"""The registry of bots, and the configurations that each has had."""

from collections.abc import Collection
from dataclasses import asdict

from sqlalchemy import func, insert, select, update

from remediator.model import Bot, ConfigVersion
from remediator.store.schema import bots, config_versions
from remediator.store.statements import Statements


class BotQueries(Statements):
    """The statements on `bots` and `config_versions`."""

    async def bot(self, name: str) -> Bot | None:
        return await self.one(Bot, select(bots).where(bots.c.name == name))

    async def bots(self) -> list[Bot]:
        return await self.all(Bot, select(bots).order_by(bots.c.name))

    async def bots_named(self, names: Collection[str]) -> dict[str, Bot]:
        return {bot.name: bot for bot in await self.where_in(Bot, select(bots), bots.c.name, names)}

    async def fleet(self, sample: int) -> tuple[int, list[Bot]]:
        active = bots.c.state == "active"
        total = (await self.execute(select(func.count()).select_from(bots).where(active))).scalar_one()
        drawn = select(bots).where(active)
        if total > sample:
            names = select(bots.c.name).where(active).order_by(func.random()).limit(sample)
            drawn = drawn.where(bots.c.name.in_(names))
        return int(total), await self.all(Bot, drawn.order_by(bots.c.name))

    async def add_bot(self, bot: Bot) -> None:
        await self.execute(insert(bots).values(asdict(bot)))

    async def change_bot(self, name: str, **changes: object) -> None:
        await self.execute(update(bots).where(bots.c.name == name).values(updated_at=self.now, **changes))

    async def remove_bot(self, name: str) -> None:
        await self.execute(bots.delete().where(bots.c.name == name))

    async def versions(self, bot: str) -> list[ConfigVersion]:
        versions = select(config_versions).where(config_versions.c.bot == bot)
        return await self.all(ConfigVersion, versions.order_by(config_versions.c.version))

    async def version(self, bot: str, number: int | None = None) -> ConfigVersion | None:
        versions = select(config_versions).where(config_versions.c.bot == bot)
        if number is not None:
            versions = versions.where(config_versions.c.version == number)
        newest = versions.order_by(config_versions.c.version.desc()).limit(1)
        return await self.one(ConfigVersion, newest)

    async def add_version(self, version: ConfigVersion) -> None:
        await self.execute(insert(config_versions).values(asdict(version)))
