"""What goes wrong in a world, and what people do to it."""

import asyncio
from typing import Final

from sandbox.simulator.plan import Happening
from sandbox.simulator.stage import Stage

_OF_BOTS: Final = frozenset(("fault", "heal", "silence", "hold", "recover", "clear", "deploy"))


class Happenings(Stage):
    """Each by its name in the plan."""

    async def _happen(self, one: Happening) -> None:
        names = sorted(self.tables.bots)
        bot, slot = names[one.who % len(names)], one.who % self.plan.replicas
        self.oracle.note(f"{one.what} {bot if one.what in _OF_BOTS else slot} {one.detail or ''}")
        world, later = self.around.world, asyncio.get_running_loop().call_later
        match one.what:
            case "fault":
                world.break_bot(bot, *one.detail)
            case "heal":
                world.faults.pop(bot, None)
            case "crash":
                self.replicas[slot].die()
            case "strike":
                self.replicas[slot].last_words = one.detail
            case "freeze":
                frozen = self.replicas[slot]
                frozen.freeze()
                later(one.seconds, frozen.thaw)
            case "stall":
                self.replicas[slot].stall = one.seconds
            case "daze":
                self.replicas[slot].daze = one.detail
            case "strike move":
                self.replicas[slot].last_move = one.detail
            case "store broken":
                self.around.store_broken = one.detail
                later(one.seconds, self._mend_store)
            case "prometheus down":
                self.alerting.down, self.around.blind = True, "Prometheus cannot be reached"
                later(one.seconds, self._see)
            case "silence":
                matcher = {"name": "bot", "value": bot, "isRegex": False, "isEqual": True}
                self.around.silences.append({"matchers": [matcher], "createdBy": "ann", "comment": "work"})
                self.alerting.silenced.add(bot)
                later(one.seconds, self._speak)
            case _:
                await self._speaks(one, bot)

    def _mend_store(self) -> None:
        self.around.store_broken = 0

    def _see(self) -> None:
        self.alerting.down, self.around.blind = False, ""

    def _speak(self) -> None:
        self.around.silences.clear()
        self.alerting.silenced.clear()

    async def _speaks(self, one: Happening, bot: str) -> None:
        """A person does something through the API."""
        replica = self._any()
        match one.what:
            case "hold":
                name = {"fleet": "", "bot": bot, "template": self.tables.bots[bot].template}[one.detail]
                await replica.call("add_hold", {"scope": one.detail, "name": name, "reason": "work"})
                await asyncio.sleep(one.seconds)
                await self._lift_holds()
            case "cancel":
                for run in [run for run in self.tables.active.values() if run.startswith("rec-")][:1]:
                    await replica.call("cancel", params={"id": run})
            case "recover":
                await replica.call("recover", {"method": one.detail}, {"id": bot})
            case "clear":
                await replica.call("clear_quarantine", params={"bot": bot})
            case "deploy":
                asked = {
                    "botName": f"new-{one.who}",
                    "botType": self.around.templates.names[0],
                    "telegramToken": "12:abc",
                    "environment": "staging",
                }
                await replica.call("deploy", asked, patience=60)

    async def _lift_holds(self) -> None:
        for number in list(self.tables.holds):
            await self._any().call("lift_hold", params={"id": str(number)})
