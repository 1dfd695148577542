"""The calls about the service itself: health, the dashboard's document, the audit trail, discovery."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from remediator.api import views
from remediator.api.body import read_number
from remediator.api.dashboard import read_dashboard
from remediator.api.lookup import runtime_of
from remediator.api.operation import ANY, TEXT, Operation
from remediator.runtime import VERSION
from remediator.timestamps import iso


async def health(request: Request) -> Response:
    """Return status, version, and how many bots and deployments there are."""
    runtime = runtime_of(request)
    async with runtime.store.read() as tx:
        bots, runs = await tx.bots(), await tx.active_runs()
    return JSONResponse(
        {
            "status": "healthy",
            "version": VERSION,
            "timestamp": iso(runtime.store.clock()),
            "managed_bots": sum(bot.state == "active" for bot in bots),
            "active_deployments": sum(run.kind != "recover" for run in runs),
        }
    )


async def dashboard(request: Request) -> Response:
    """Return the fleet, its health over 24 hours, what is being done, what is firing."""
    return JSONResponse(await read_dashboard(runtime_of(request)))


async def audit(request: Request) -> Response:
    """Return the audit trail, oldest first; without `after`, the newest entries."""
    limit = int(read_number(request, "limit", 100, 1000))
    after = int(read_number(request, "after", 0, 2**31 - 1)) if "after" in request.query_params else None
    async with runtime_of(request).store.read() as tx:
        entries = await tx.audit_trail(bot=request.query_params.get("bot"), after=after, limit=limit)
    return JSONResponse([views.audit(entry) for entry in entries])


async def service_discovery(request: Request) -> Response:
    """Return the registry in Prometheus's http_sd format."""
    async with runtime_of(request).store.read() as tx:
        return JSONResponse(views.service_discovery(await tx.bots()))


async def healthy(_: Request) -> Response:
    """Answer 200 while the process serves."""
    return PlainTextResponse("healthy\n")


async def ready(request: Request) -> Response:
    """Answer 200 once the store is migrated and unfinished runs were taken up, unless it takes no writes."""
    store = runtime_of(request).store
    if store.write_fault:
        async with store.write() as tx:  # StoreError, a 503, while that lasts
            await tx.set_fact("found_writable", tx.now)
    return PlainTextResponse("ready\n")


OPERATIONS: Final = (
    Operation("GET", "/health", health, {200: ("It works.", ANY)}, access="open"),
    Operation("GET", "/dashboard", dashboard, {200: ("All there is to know.", ANY)}),
    Operation(
        "GET",
        "/audit",
        audit,
        {200: ("Entries of the trail.", list[views.AuditView])},
        query={
            "after": "Only entries with a greater id.",
            "limit": "At most so many (100; at most 1000).",
            "bot": "Only this bot's.",
        },
    ),
    Operation("GET", "/sd", service_discovery, {200: ("http_sd.", list[dict[str, Any]])}, access="metrics"),
    Operation("GET", "/-/healthy", healthy, {200: ("The process serves.", TEXT)}, access="open"),
    Operation(
        "GET",
        "/-/ready",
        ready,
        {200: ("Runs are being served.", TEXT), 503: ("Nothing can be written.", ANY)},
        access="open",
    ),
)
