"""The bots' own series: columns in chunks, rendered and gzipped ahead of a scrape (as kube-state-metrics).

prometheus-client's generate_latest took 1.8 s for 230,000 samples; a scrape here joins bytes that are ready.
A bot's chunk follows from its slot, so that bots probed at about the same time lie together and a chunk is
rendered once an interval, shortly after its probes, however large the fleet.
"""

from collections.abc import Iterator
from itertools import islice

from exporter.exposition.chunk import Chunk
from exporter.exposition.columns import failures, numbers
from exporter.exposition.format import header
from exporter.exposition.gzip_members import compress_member, decompress_member
from exporter.metrics import PER_BOT
from exporter.observation import Observation
from exporter.schedule import slot
from exporter.targets import Target

CHUNK = 256
_QUIET = 0.3  # seconds without a change after which a chunk is rendered
_SPACING = 2.0  # seconds between two renderings of a chunk that changes all the time
_AT_ONCE = 128  # bots a scrape renders itself; more are served as they were last rendered
_FAMILIES = range(len(PER_BOT))
MAX_PAGES = 16  # as chunks are halves of halves of the circle of slots, a bot never changes its page


class Store:
    """Series by bot. A bot that leaves is gone from the next scrape."""

    def __init__(self, bots: int = CHUNK) -> None:
        self._chunks = _chunks_for(bots)
        self._chunk_of: dict[str, Chunk] = {}  # by bot
        self._changed: dict[Chunk, None] = {}  # changed since they were rendered, the longest ago first
        self._headers = {
            open_metrics: tuple(header(family, open_metrics).encode() for family in PER_BOT)
            for open_metrics in (False, True)
        }
        self._header_members = {
            key: tuple(map(compress_member, headers)) for key, headers in self._headers.items()
        }

    def __len__(self) -> int:
        return len(self._chunk_of)

    def reserve(self, bots: int) -> None:
        """Make ready for so many bots: more chunks, or far fewer, move every row."""
        chunks = _chunks_for(bots)
        if len(self._chunks) / 4 < len(chunks) <= len(self._chunks):
            return
        old, self._chunks = self._chunks, chunks
        self._chunk_of.clear()
        self._changed.clear()
        for chunk in old:
            for row in chunk.rows():
                self._chunk(row[0].bot).put(*row)

    def put_target(self, target: Target) -> None:
        """Publish the bot's identity; all else it has only once it was probed."""
        self._chunk(target.bot).put_target(target)

    def upsert(self, target: Target, observation: Observation, now: float = 0.0) -> None:
        """Publish the result of a probe. `now` is monotonic seconds."""
        chunk = self._chunk(target.bot)
        state, facts = observation.state, observation.facts
        columns = state.version, state.config_sha, facts.channels or (), facts.failed_by or ()
        chunk.put(target, *columns, numbers(observation), failures(observation))
        chunk.touched = now

    def remove(self, bot: str) -> None:
        """Publish the bot no more."""
        self._chunk(bot).remove(bot)
        del self._chunk_of[bot]

    def render_idle(self, now: float, limit: int = 1) -> None:
        """Render chunks that no longer change; at most so many, so that probes are not held up."""
        idle = (
            chunk
            for chunk in self._changed
            if now - chunk.touched > _QUIET or now - chunk.rendered > _SPACING
        )
        for chunk in tuple(islice(idle, limit)):
            del self._changed[chunk]
            if chunk.dirty:  # else a scrape came first
                chunk.render()
                chunk.rendered = now

    def render(
        self, *, gzip: bool = False, open_metrics: bool = False, page: int = 0, pages: int = 1
    ) -> Iterator[bytes]:
        """Yield page `page` (from 0) of the exposition in pieces, with `gzip` each a member of its own."""
        share = len(self._chunks) // pages
        chunks = [chunk for chunk in self._chunks[page * share : (page + 1) * share] if len(chunk)]
        left = _AT_ONCE
        for chunk in chunks:
            if chunk.dirty and (chunk.shrunk or left > 0):
                chunk.render()
                left -= len(chunk)
        headers = (self._header_members if gzip else self._headers)[open_metrics]
        # All of one moment, however slowly a client reads.
        families = [[member for chunk in chunks if (member := chunk.members[index])] for index in _FAMILIES]
        for head, members in zip(headers, families, strict=True):
            if members:
                yield head
                yield from members if gzip else map(decompress_member, members)

    def _chunk(self, bot: str) -> Chunk:
        """Return the bot's chunk, and mark it as changed."""
        chunk = self._chunk_of.get(bot)
        if chunk is None:
            chunk = self._chunk_of[bot] = self._chunks[int(slot(bot, 1.0) * len(self._chunks))]
        self._changed[chunk] = None
        return chunk


def _chunks_for(bots: int) -> tuple[Chunk, ...]:
    count = MAX_PAGES
    while bots / count > CHUNK:
        count *= 2
    return tuple(Chunk() for _ in range(count))
