"""Makes recommendations from two weeks of evidence, and remembers what was said."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from remediator.accounts import Accounts
from remediator.advice import Advice, advise
from remediator.cost import ModelSpend, month_of
from remediator.efficiency import Quality, cheaper_model
from remediator.evidence import Evidence, read_evidence
from remediator.ledger import Ledger, StoredAdvice
from remediator.model import Bot
from remediator.model_prices import aliased
from remediator.prices import PriceTable
from remediator.prometheus import PrometheusError
from remediator.usage import Usage
from templates import Templates

log = structlog.get_logger()

ADVISED: Final = "advised_at"
NOTHING: Final = Evidence({}, {})


@dataclass
class Counsel:
    accounts: Accounts
    templates: Templates
    quality: Mapping[str, Quality] = field(default_factory=dict)  # as last seen, by bot

    async def round(self) -> None:
        """Once, if it is time."""
        store, settings = self.accounts.store, self.accounts.settings
        async with store.read() as tx:
            advised_at = await tx.fact(ADVISED) or 0
            now = tx.now
        if now - advised_at >= settings.advice_interval:
            await self.advise_all(now)

    async def advise_all(self, now: float) -> None:
        """Recommendations for every bot. An unreachable Prometheus leaves those that stand."""
        store, prometheus = self.accounts.store, self.accounts.prometheus
        evidence = NOTHING
        if prometheus is not None:
            try:
                evidence = await read_evidence(prometheus, now)
            except PrometheusError as error:
                log.warning("no new recommendations", error=str(error))
                return
        self.quality = evidence.quality
        async with store.read() as tx:
            bots = [bot for bot in await tx.bots() if bot.state == "active"]
            prices = await self.accounts.prices(tx)
            spends = await Ledger(tx).model_spend(month_of(now - 31 * 86400))
            before = {(one.bot, one.kind): one for one in await Ledger(tx).advice()}
        standing = {key: one.target for key, one in before.items()}
        made = await asyncio.to_thread(self.advices, bots, evidence, prices, spends, standing, now)
        async with store.write() as tx:
            kept = [_kept(one, before.get((one.bot, one.kind)), tx.now) for one in made]
            await Ledger(tx).replace_advice(kept)
            await tx.set_fact(ADVISED, tx.now)
            for one, advice in zip(kept, made, strict=True):
                if one.target and one.since == tx.now:
                    await tx.audit("advice.given", bot=one.bot, kind=one.kind, command=advice.command)

    def advices(
        self,
        bots: Iterable[Bot],
        evidence: Evidence,
        prices: PriceTable,
        spends: Sequence[ModelSpend],
        standing: dict[tuple[str, str], str],
        now: float,
    ) -> list[Advice]:
        """Of each bot: its instance, and its model where it reports usage. Pure."""
        of_bot: dict[str, list[ModelSpend]] = {}
        for spend in spends:
            of_bot.setdefault(spend.bot, []).append(spend)
        made = []
        for bot in bots:
            usage = evidence.usage.get(bot.name, Usage())
            said = standing.get((bot.name, "instance"), "")
            made.append(advise(bot.name, str(bot.config["instance_type"]), usage, prices, said))
            quality = evidence.quality.get(bot.name, Quality())
            total = _total(bot, of_bot.get(bot.name, ()))
            if total is not None:
                said = standing.get((bot.name, "model"), "")
                made.append(self._model(bot, total, quality, said, now))
        return made

    def _model(self, bot: Bot, spend: ModelSpend, quality: Quality, said: str, now: float) -> Advice:
        try:
            allowed = self.templates.get(bot.template, bot.environment).models
        except KeyError:  # of a bot that was deployed when there was such a template
            allowed = []
        days = max((spend.until - spend.since) / 86400, 1 / 24)
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        aliases = self.accounts.aliases
        return cheaper_model(spend, allowed, quality, days, day, said, lambda model: aliased(model, aliases))


def _total(bot: Bot, spends: Iterable[ModelSpend]) -> ModelSpend | None:
    """What the bot has spent on the model that it uses now."""
    ours = [spend for spend in spends if spend.model == bot.config["model"]]
    if not ours:
        return None
    sums: dict[str, Any] = {
        name: sum(getattr(spend, name) for spend in ours)
        for name in ("usd", "requests", "unpriced", "input_tokens", "output_tokens")
    }
    since, until = min(spend.since for spend in ours), max(spend.until for spend in ours)
    return ModelSpend(
        bot.name, ours[0].model, "", bot.template, bot.environment, since=since, until=until, **sums
    )


def _kept(advice: Advice, before: StoredAdvice | None, now: float) -> StoredAdvice:
    same = before is not None and before.target == advice.target
    since = before.since if same and before is not None else now
    return StoredAdvice(
        advice.bot, advice.kind, advice.target, since, now, {**asdict(advice), "command": advice.command}
    )
