"""The exporter over HTTP: metrics, a probe for debugging, health, reload."""

import asyncio
from itertools import islice

from aiohttp import web
from aiohttp.typedefs import Middleware

from exporter.exposition.format import OPEN_METRICS, TEXT, wants_gzip, wants_open_metrics
from exporter.exposition.gzip_members import compress_member
from exporter.exposition.self_metrics import SelfMetrics
from exporter.exposition.store import MAX_PAGES, Store
from exporter.fleet.fleet import Bot, Fleet
from exporter.fleet.reloader import Reloader
from exporter.observation import Observation, observe
from exporter.probing.probe import OwnFaultError, Session, Steps, probe
from exporter.settings import Settings, package_version
from exporter.sharding import shard_of
from exporter.web import pages

_TEXT = "text/plain"
_VARY = "Accept, Accept-Encoding, User-Agent"
# Of the exposition, put together in one go: half a megabyte or so. Then the event loop serves the probes.
_PIECES, _PIECES_GZIPPED = 32, 256


class Server:
    """The HTTP handlers."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        fleet: Fleet,
        store: Store,
        self_metrics: SelfMetrics,
        reloader: Reloader,
    ) -> None:
        self._settings, self._session, self._fleet = settings, session, fleet
        self._store, self._self_metrics, self._reloader = store, self_metrics, reloader

    def app(self, *middlewares: Middleware) -> web.Application:
        """Make the application, its routes behind the middlewares."""
        app = web.Application(middlewares=middlewares)
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/metrics", self._metrics),
                web.get("/sd", self._sd),
                web.get("/probe", self._probe),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._ready),
                web.post("/-/reload", self._reload),
                web.put("/-/reload", self._reload),
            ]
        )
        return app

    async def _index(self, request: web.Request) -> web.Response:
        search = request.query.get("search", "")
        # In a thread, as to search a large fleet takes longer than probes should wait.
        text = await asyncio.to_thread(pages.index, list(self._fleet), search, package_version())
        return web.Response(text=text, content_type="text/html")

    async def _sd(self, request: web.Request) -> web.Response:
        """Answer the pages of /metrics as http_sd, for a Prometheus that scrapes a large fleet in parts."""
        try:
            _, count = _page_of("1", request.query.get("of", "1"))
        except ValueError as error:
            return _text_response(400, str(error))
        labels = {"__metrics_path__": "/metrics", "__param_of": str(count)}
        return web.json_response(
            [
                {"targets": [request.host], "labels": labels | {"__param_page": str(page)}}
                for page in range(1, count + 1)
            ]
        )

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        try:
            page, count = _page_of(request.query.get("page", "1"), request.query.get("of", "1"))
        except ValueError as error:
            return _text_response(400, str(error))
        # A stream of many members is whole for Go alone: browsers and curl stop after the first.
        scraper = request.headers.get("User-Agent", "").startswith("Prometheus/")
        gzip = scraper and wants_gzip(request.headers.get("Accept-Encoding", ""))
        open_metrics = wants_open_metrics(request.headers.get("Accept", ""))
        pieces = self._store.render(gzip=gzip, open_metrics=open_metrics, page=page - 1, pages=count)
        most = _PIECES_GZIPPED if gzip else _PIECES
        body = b"".join(islice(pieces, most))
        await asyncio.sleep(0)
        own = self._self_metrics.render(open_metrics) if page == 1 else b"# EOF\n" if open_metrics else b""
        own = compress_member(own) if gzip else own
        headers = {"Content-Type": OPEN_METRICS if open_metrics else TEXT, "Vary": _VARY}
        if gzip:
            headers["Content-Encoding"] = "gzip"
        if not (more := b"".join(islice(pieces, most))):
            return web.Response(body=body + own, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body)
        while more:
            await asyncio.sleep(0)
            await response.write(more)
            more = b"".join(islice(pieces, most))
        await response.write(own)
        await response.write_eof()
        return response

    async def _probe(self, request: web.Request) -> web.Response:
        """Probe a known bot now, without counting it. Only known ones: this is no way into the network."""
        name = request.query.get("bot", "")
        if not name:
            return _text_response(
                400, "parameter bot is missing: write /probe?bot=NAME or /probe?bot=NAME&debug=true"
            )
        bot = self._fleet.get(name)
        if bot is None:
            return _text_response(404, self._unknown(name))
        debug = request.query.get("debug", "false")
        if debug not in ("true", "false"):
            return _text_response(400, f"parameter debug is {debug!r}: write true or false")
        steps = Steps()
        settings = self._settings
        try:
            result = await probe(
                self._session, bot.target, timeout=settings.timeout, max_body=settings.max_body, steps=steps
            )
        except OwnFaultError as fault:
            return _text_response(503, f"not probed, which says nothing about the bot: {fault}")
        observation = observe(bot.state, result, settings.thresholds)
        series = _exposition(bot, observation)
        text = pages.report(bot, observation, steps, series) if debug == "true" else series
        return web.Response(text=text, headers={"Content-Type": TEXT})

    def _unknown(self, bot: str) -> str:
        """Explain why there is no such bot here: it may be on another shard."""
        total, own = self._settings.total_shards, self._settings.shard
        if (shard := shard_of(bot, total)) != own:
            return f"bot {bot!r} is not known here: if it is a target, shard {shard} of {total} watches it"
        return f"bot {bot!r} is not known: put it in the target list; /metrics names all"

    async def _healthy(self, _: web.Request) -> web.Response:
        return _text_response(200, "healthy")

    async def _ready(self, _: web.Request) -> web.Response:
        if self._reloader.ready:
            return _text_response(200, "ready")
        return _text_response(503, "not ready: no target list has been read yet")

    async def _reload(self, _: web.Request) -> web.Response:
        loaded = await self._reloader.reload()
        lines = [f"loaded {len(loaded.targets)} bots"]
        if loaded.unread:
            lines += ["not read, and their last good lists stay:", *map(str, loaded.unread)]
        if loaded.invalid:
            lines += [f"refused {len(loaded.invalid)} targets:", *map(str, loaded.invalid)]
        return _text_response(200 if loaded.ok else 500, "\n".join(lines))


def _text_response(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", content_type=_TEXT)


def _page_of(page: str, pages: str) -> tuple[int, int]:
    """Parse which page of how many; ValueError says which parameter is wrong."""
    if not pages.isdecimal() or int(pages) not in (1, 2, 4, 8, MAX_PAGES):
        raise ValueError(f"parameter of is {pages!r}: write 1, 2, 4, 8 or {MAX_PAGES}")
    if not page.isdecimal() or not 1 <= int(page) <= int(pages):
        raise ValueError(f"parameter page is {page!r}: write 1 to {pages}")
    return int(page), int(pages)


def _exposition(bot: Bot, observation: Observation) -> str:
    store = Store()
    store.upsert(bot.target, observation)
    return b"".join(store.render()).decode()
