"""Refuses what another site's page sent from somebody's browser.

A page can send a request to every address that its browser reaches. Browsers alone say so, in Origin and
Sec-Fetch-Site (fetch.spec.whatwg.org, w3.org/TR/fetch-metadata); Prometheus and curl send neither, and may
ask by whatever name this exporter has.
"""

import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from aiohttp import web

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{1,5})?")
_REMEDY = "no page of another site may ask; use curl, which sends no such header"


@web.middleware
async def refuse_other_sites(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer 403 to another site's page, whatever it asks for; else do as asked."""
    if (header := foreign_header(request)) is None:
        return await handler(request)
    return web.Response(status=403, text=f"header {header}: the request is another site's; {_REMEDY}\n")


def foreign_header(request: web.Request) -> str | None:
    """Return the header that shows a request to be another site's; None if it is not.

    A name that a page came by may be its owner's, who lets it lead here (DNS rebinding): such a page changes
    nothing, either. An address, or localhost, cannot lead elsewhere.
    """
    changes = request.method not in ("GET", "HEAD")
    authority = request.headers.get("Host", "").lower()
    for origin in request.headers.getall("Origin", []):
        ours = origin.lower() in (f"http://{authority}", f"https://{authority}")
        if not ours or (changes and not _is_fixed(authority)):
            return "Origin"
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if all(site in ("same-origin", "none") for site in sites):
        return None
    # A link that a person followed, as from Prometheus to /metrics: no page sees the answer.
    mode, destination = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
    return None if not changes and (mode, destination) == ("navigate", "document") else "Sec-Fetch-Site"


def _is_fixed(authority: str) -> bool:
    match = _HOST.fullmatch(authority)
    host = (match[1] or match[2]) if match else ""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
