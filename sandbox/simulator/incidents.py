"""What goes wrong in a world, and what people do to it."""

import asyncio
from typing import Final

from sandbox.simulator.plan import Incident
from sandbox.simulator.scenario import Scenario

_OF_BOTS: Final = frozenset(("fault", "heal", "silence", "hold", "recover", "clear", "deploy"))


class Incidents(Scenario):
    """Makes each incident of the plan happen, by its kind."""

    async def _cause(self, incident: Incident) -> None:
        """Make it happen now, and end where it lasts."""
        names = sorted(self.tables.bots)
        bot, slot = names[incident.subject % len(names)], incident.subject % self.plan.replicas
        self.oracle.note(
            f"{incident.kind} {bot if incident.kind in _OF_BOTS else slot} {incident.detail or ''}"
        )
        world, later = self.shared.world, asyncio.get_running_loop().call_later
        match incident.kind:
            case "fault":
                world.break_bot(bot, *incident.detail)
            case "heal":
                world.faults.pop(bot, None)
            case "crash":
                self.replicas[slot].die()
            case "strike":
                self.replicas[slot].dies_at = incident.detail
            case "freeze":
                frozen = self.replicas[slot]
                frozen.freeze()
                later(incident.seconds, frozen.thaw)
            case "stall":
                self.replicas[slot].freeze_before_request = incident.seconds
            case "daze":
                self.replicas[slot].freeze_after_read = incident.detail
            case "strike move":
                self.replicas[slot].dies_at_move = incident.detail
            case "store broken":
                self.shared.store_broken = incident.detail
                later(incident.seconds, self._repair_store)
            case "prometheus down":
                self.alerting.down, self.shared.monitoring_problem = True, "Prometheus cannot be reached"
                later(incident.seconds, self._restore_prometheus)
            case "provider down":
                world.provider_down = True
                later(incident.seconds, self._restore_provider)
            case "silence":
                matcher = {"name": "bot", "value": bot, "isRegex": False, "isEqual": True}
                self.shared.silences.append({"matchers": [matcher], "createdBy": "ann", "comment": "work"})
                self.alerting.silenced.add(bot)
                later(incident.seconds, self._lift_silences)
            case _:
                await self._call_api(incident, bot)

    def _repair_store(self) -> None:
        self.shared.store_broken = 0

    def _restore_prometheus(self) -> None:
        self.alerting.down, self.shared.monitoring_problem = False, ""

    def _restore_provider(self) -> None:
        self.shared.world.provider_down = False

    def _lift_silences(self) -> None:
        self.shared.silences.clear()
        self.alerting.silenced.clear()

    async def _call_api(self, incident: Incident, bot: str) -> None:
        """Do through the API what a person does."""
        replica = self._any_replica()
        match incident.kind:
            case "hold":
                name = {"fleet": "", "bot": bot, "template": self.tables.bots[bot].template}[incident.detail]
                await replica.call("add_hold", {"scope": incident.detail, "name": name, "reason": "work"})
                await asyncio.sleep(incident.seconds)
                await self._lift_holds()
            case "cancel":
                for run in [run for run in self.tables.active.values() if run.startswith("rec-")][:1]:
                    await replica.call("cancel", params={"id": run})
            case "recover":
                await replica.call("recover", {"method": incident.detail}, {"id": bot})
            case "clear":
                await replica.call("clear_quarantine", params={"bot": bot})
            case "deploy":
                body = {
                    "botName": f"new-{incident.subject}",
                    "botType": self.shared.templates.names[0],
                    "telegramToken": "12:abc",
                    "environment": "staging",
                }
                await replica.call("deploy", body, patience=60)

    async def _lift_holds(self) -> None:
        for number in list(self.tables.holds):
            await self._any_replica().call("lift_hold", params={"id": str(number)})
