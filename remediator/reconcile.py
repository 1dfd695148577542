"""The HTTP calls about drift: what differs from what was declared, and putting it right."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import views
from remediator.bluegreen import begin
from remediator.drift import METADATA, Difference
from remediator.ec2 import AwsError
from remediator.errors import RequestError
from remediator.handlers import Handlers, actor_of, bot_named
from remediator.inspector import Inspector, seen
from remediator.model import Bot, Run
from remediator.operation import ANY, Operation
from remediator.requests import ReconcileRequest, read_body
from remediator.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Reconciling(Handlers):
    async def drift(self, _: Request) -> Response:
        """What the observer last saw of each bot that is otherwise than it was declared."""
        async with self.services.store.read() as tx:
            return JSONResponse(view(await seen(tx)))

    async def reconcile(self, request: Request) -> Response:
        """Look at one bot now, and say what would put it right; with `apply`, do it."""
        asked = await read_body(request, ReconcileRequest)
        who = asked.by or actor_of(request)
        name = request.path_params["bot"]
        async with self.services.store.read() as tx:
            bot = await _in_no_hands(tx, name)
        inspector = self._inspector()
        differences = await self._inspected(inspector, bot)
        plan: list[dict[str, Any]] = [one.view() for one in differences]
        answer = {"bot": name, "applied": asked.apply and bool(plan), "plan": plan, "deploymentId": None}
        if not answer["applied"]:
            return JSONResponse(answer)
        async with self.services.store.write() as tx:
            await _in_no_hands(tx, name)
            await tx.audit("reconcile.asked", bot=name, actor=who, plan=plan)
        for one, shown in zip(differences, plan, strict=True):
            shown["outcome"] = await self._put_right(bot, one, who)
        broken = [one.field for one in differences if one.disruptive]
        if not broken:
            await inspector.note(bot, await self._inspected(self._inspector(), bot))
            return JSONResponse(answer)
        run = await self._redeploy(name, who, f"it drifted: {', '.join(broken)}")
        self.services.engine.drive(run)
        location = {"Location": run.path}
        return JSONResponse({**answer, "deploymentId": run.id, "status": run.status}, 202, headers=location)

    def _inspector(self) -> Inspector:
        """One that remembers nothing: it reads all there is."""
        services = self.services
        return Inspector(services.store, services.aws, services.prober, services.settings)

    async def _inspected(self, inspector: Inspector, bot: Bot) -> list[Difference]:
        try:
            return await inspector.inspect(bot)
        except AwsError as error:
            raise RequestError(
                502,
                f"its instance cannot be looked at: {error}",
                field="bot",
                remedy="see to it that this service may call EC2, then ask again",
            ) from None

    async def _put_right(self, bot: Bot, one: Difference, who: str) -> str:
        """What became of it. A disruptive one is left to the redeploy that follows."""
        aws = self.services.aws
        try:
            match one.remedy:
                case "tag":
                    await aws.tag(bot.instance_id, one.stored)
                case "set groups":
                    await aws.set_security_groups(bot.instance_id, one.stored)
                case "set metadata options":
                    await aws.set_metadata_options(bot.instance_id, {**METADATA, **one.stored})
                case "redeploy":
                    return "redeploys"
                case "person":
                    return "not touched"
        except AwsError as error:
            outcome, event = f"failed: {error}", "reconcile.failed"
        else:
            outcome, event = "done", "reconcile.done"
        async with self.services.store.write() as tx:
            facts: dict[str, Any] = {"field": one.field, "was": one.real, "wanted": one.stored}
            facts |= {"instance": bot.instance_id, "outcome": outcome}
            await tx.audit(event, bot=bot.name, actor=who, **facts)
        return outcome

    async def _redeploy(self, name: str, who: str, reason: str) -> Run:
        """With the configuration that is live, not with one that waits."""
        try:
            async with self.services.store.write() as tx:
                bot = await _in_no_hands(tx, name)
                return await begin(
                    self.services, tx, bot, version=bot.version or None, actor=who, reason=reason
                )
        except IntegrityError:
            raise RequestError(409, f"a run of {name!r} has just begun", field="bot") from None


async def _in_no_hands(tx: Transaction, name: str) -> Bot:
    bot = await bot_named(tx, name)
    run = await tx.active_run(name)
    if run is not None or bot.state != "active":
        hands = f"in the hands of {run.id} ({run.status})" if run is not None else bot.state
        raise RequestError(
            409,
            f"{name!r} is {hands}, and so may differ for good reasons",
            field="bot",
            remedy="ask again when that has ended",
        )
    return bot


def view(kept: dict[str, Any]) -> dict[str, Any]:
    return {
        "lookedAt": views.maybe_iso(kept["at"]),
        "problem": kept["problem"],
        "bots": [
            {
                "bot": name,
                "differences": [{**one, "since": views.iso(one["since"])} for one in differences],
            }
            for name, differences in sorted(kept["bots"].items())
        ],
    }


OPERATIONS: Final = (
    Operation("GET", "/drift", "drift", {200: ("By bot; `lookedAt` is null before the first look.", ANY)}),
    Operation(
        "POST",
        "/bots/{bot}/reconcile",
        "reconcile",
        {
            200: ("The plan, or what was done.", ANY),
            202: ("Part of it takes a redeploy, which has begun.", ANY),
            404: ("Unknown bot.", ANY),
            409: ("The bot is in the hands of another run.", ANY),
            502: ("AWS cannot be asked.", ANY),
        },
        body=ReconcileRequest,
    ),
)
