"""What every group of HTTP calls stands on. A group is a class of its own; `Api` is all of them."""

from dataclasses import dataclass

from starlette.requests import Request

from remediator.errors import RequestError
from remediator.model import Bot
from remediator.services import Services
from remediator.transaction import Transaction


def actor_of(request: Request) -> str:
    return f"api:{request.client.host if request.client else 'unknown'}"


def unknown(field: str, value: str, remedy: str) -> RequestError:
    return RequestError(404, f"there is no {value[:80]!r}", field=field, remedy=remedy)


async def bot_named(tx: Transaction, name: str, field: str = "bot") -> Bot:
    """RequestError 404 where there is none."""
    bot = await tx.bot(name)
    if bot is None:
        raise unknown(field, name, "GET /sd lists the bots")
    return bot


async def free_bot(tx: Transaction, name: str, field: str = "bot") -> Bot:
    """RequestError 404 where there is none, 409 where a run has it in hand."""
    bot = await bot_named(tx, name, field)
    active = await tx.active_run(name)
    if active is not None:
        raise RequestError(
            409,
            f"{name!r} is in the hands of {active.id} ({active.status}: {active.reason})",
            field=field,
            remedy=f"GET {active.path} shows it; ask again when it has ended",
        )
    return bot


@dataclass(frozen=True, slots=True)
class Handlers:
    """Has no fields but this one, so that groups can be joined."""

    services: Services
