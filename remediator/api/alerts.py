"""The call that Alertmanager makes."""

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.alerts import webhook
from remediator.alerts.intake import receive
from remediator.api.body import ALERTS_LIMIT, read_json
from remediator.api.errors import RequestError
from remediator.api.lookup import runtime_of
from remediator.api.operation import ANY, Operation
from remediator.errors import Refused


async def alerts(request: Request) -> Response:
    """Take Alertmanager's webhook, version 4. A 2xx means that the alerts are on disk."""
    runtime = runtime_of(request)
    try:
        payload = webhook.parse(await read_json(request, ALERTS_LIMIT))
    except Refused as error:
        raise RequestError(400, error.message, field=error.field, remedy=error.remedy) from None
    relapse_after = runtime.settings.relapse_after
    received = await receive(runtime.store, payload, runtime.metrics, relapse_after)
    for run in received.started:
        runtime.engine.drive(run)
    for run_id in sorted(received.concerned):  # in an order that a simulation can repeat
        runtime.engine.wake(run_id)
    recoveries = sorted({run.id for run in received.started} | received.concerned)
    return JSONResponse({"accepted": len(payload.alerts), "recoveries": recoveries})


OPERATIONS: Final = (
    Operation("POST", "/alerts", alerts, {200: ("The alerts are on disk.", ANY)}, body=webhook.Webhook),
)
