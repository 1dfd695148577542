"""What a person can say to the machine: stop this, go on, not now, yes, no. Each is in the audit trail."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import views
from remediator.errors import RequestError
from remediator.explain import explain
from remediator.handlers import Handlers, actor_of, bot_named, unknown
from remediator.model import Run
from remediator.requests import HoldRequest, SpokenRequest, read_body
from remediator.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Controls(Handlers):
    async def cancel(self, request: Request) -> Response:
        """End a recovery at its next step: what is being done is finished, nothing more is begun."""
        spoken = await read_body(request, SpokenRequest)
        who = spoken.by or actor_of(request)
        async with self.services.store.write() as tx:
            run = await self._active(tx, request.path_params["id"])
            reason = f"cancelled by {who}" + (f": {spoken.reason}" if spoken.reason else "")
            await tx.change_run(run.id, cancel=reason)
            await tx.audit("cancel.asked", bot=run.bot, run_id=run.id, actor=who, reason=spoken.reason)
        self.services.engine.wake(run.id)
        return JSONResponse({"recoveryId": run.id, "status": "cancelling"}, 202)

    async def approve(self, request: Request) -> Response:
        """Say yes to the tier that waits for it."""
        return await self._decide(request, "yes")

    async def deny(self, request: Request) -> Response:
        """Say no: the bot is left to people."""
        return await self._decide(request, "no")

    async def _decide(self, request: Request, decision: str) -> Response:
        spoken = await read_body(request, SpokenRequest)
        who = spoken.by or actor_of(request)
        run_id = request.path_params["id"]
        async with self.services.store.write() as tx:
            run = await self._active(tx, run_id)
            asked = await tx.decide_approval(run_id, decision, who)
            if asked is None:
                raise RequestError(
                    409,
                    f"{run_id} does not wait for an answer",
                    field="recoveryId",
                    remedy=f"GET /recover/{run_id} shows what it is at",
                )
            await tx.audit(f"approval.{decision}", bot=run.bot, run_id=run_id, actor=who, tier=asked.tier)
        self.services.engine.wake(run_id)
        return JSONResponse({"recoveryId": run_id, "tier": asked.tier, "decision": decision, "by": who})

    async def _active(self, tx: Transaction, run_id: str) -> Run:
        run = await tx.run(run_id)
        if run is None or run.kind != "recover":
            raise unknown("recoveryId", run_id, "GET /dashboard lists the recent ones")
        if run.finished_at is not None:
            raise RequestError(409, f"{run_id} has ended ({run.status})", field="recoveryId")
        return run

    async def clear_quarantine(self, request: Request) -> Response:
        """Let automatic recovery have the bot again."""
        name = request.path_params["bot"]
        async with self.services.store.write() as tx:
            bot = await bot_named(tx, name)
            if bot.quarantined_at is None:
                raise RequestError(409, f"{name!r} is not in quarantine", field="bot")
            await tx.change_bot(name, quarantined_at=None, quarantine_reason=None, attempts_from=tx.now)
            await tx.audit("quarantine.cleared", bot=name, actor=actor_of(request), was=bot.quarantine_reason)
        return JSONResponse({"bot": name, "state": bot.state})

    async def explain(self, request: Request) -> Response:
        """In order: what came in, what each gate said, what was done and seen, and what happens next."""
        name = request.path_params["bot"]
        async with self.services.store.read() as tx:
            bot = await bot_named(tx, name)
            run = await tx.active_run(name) or await tx.last_recovery(name)
            story = explain(
                bot,
                run,
                steps=await tx.steps(run.id) if run else [],
                verdicts=await tx.verdicts(run.id) if run else [],
                trail=await tx.audit_trail(bot=name, after=None, limit=200),
                approval=await tx.open_approval(run.id) if run else None,
                holds=[hold for hold in await tx.holds() if hold.covers(bot, tx.now)],
                settings=self.services.settings,
                now=tx.now,
            )
        if "json" in request.headers.get("accept", ""):
            return JSONResponse(story.view())
        return Response(story.text(), media_type="text/plain")

    async def list_holds(self, _: Request) -> Response:
        """Pauses and maintenance windows that are not over."""
        async with self.services.store.read() as tx:
            return JSONResponse([views.hold(hold) for hold in await tx.holds()])

    async def add_hold(self, request: Request) -> Response:
        """Pause automatic recovery, or announce maintenance (with `endsAt`)."""
        asked = await read_body(request, HoldRequest)
        who = asked.by or actor_of(request)
        async with self.services.store.write() as tx:
            starts_at = asked.starts_at.timestamp() if asked.starts_at else tx.now
            ends_at = asked.ends_at.timestamp() if asked.ends_at else None
            if ends_at is not None and ends_at <= max(starts_at, tx.now):
                raise RequestError(
                    422,
                    "is over before it begins",
                    field="endsAt",
                    remedy="give a time after startsAt and now",
                )
            await self._known(tx, asked)
            values = {"scope": asked.scope, "name": asked.name, "reason": asked.reason}
            hold_id = await tx.add_hold(**values, actor=who, starts_at=starts_at, ends_at=ends_at)
            bot = asked.name if asked.scope == "bot" else ""
            await tx.audit("hold.added", bot=bot, actor=who, hold=hold_id, **values)
        return JSONResponse({"id": hold_id, **values, "by": who}, 201)

    async def _known(self, tx: Transaction, asked: HoldRequest) -> None:
        known = {
            "fleet": [""],
            "template": self.services.templates.names,
            "environment": ["production", "staging", "development"],
            "bot": [bot.name for bot in await tx.bots()],
        }[asked.scope]
        if asked.name not in known:
            remedy = "leave it out" if asked.scope == "fleet" else f"use one of {', '.join(known[:20])}"
            raise RequestError(422, f"{asked.name!r} is no {asked.scope} here", field="name", remedy=remedy)

    async def lift_hold(self, request: Request) -> Response:
        """Resume: end a pause or a maintenance window."""
        text = request.path_params["id"]
        async with self.services.store.write() as tx:
            if not text.isdigit() or not await tx.remove_hold(int(text)):
                raise unknown("id", text, "GET /holds lists them")
            await tx.audit("hold.lifted", actor=actor_of(request), hold=int(text))
            waiting = await tx.blocked(1000)
        for run in waiting:
            self.services.engine.wake(run.id)
        return JSONResponse({"id": int(text), "status": "lifted"})
