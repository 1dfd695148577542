"""Sources of targets: real files and a real HTTP service, changing, broken and gone."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from exporter.discovery import Discovery, Loaded
from exporter.settings import Settings

RawBot = Callable[[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]], Awaitable[str]]
Discover = Callable[..., Discovery]


@pytest.fixture
async def discover() -> AsyncIterator[Discover]:
    async with aiohttp.ClientSession() as session:
        yield lambda **settings: Discovery(Settings(**settings), session)


def groups(*bots: str) -> str:
    return json.dumps([{"targets": ["127.0.0.1:1"], "labels": {"bot": bot}} for bot in bots])


def bots(loaded: Loaded) -> list[str]:
    return [target.bot for target in loaded.targets]


async def test_yaml_and_json_files_and_globs_are_read(tmp_path: Path, discover: Discover) -> None:
    (tmp_path / "a.yml").write_text("- targets: ['127.0.0.1:1']\n  labels: {bot: forge}\n")
    (tmp_path / "b.json").write_text(groups("muse"))
    loaded = await discover(files=(str(tmp_path / "*.yml"), str(tmp_path / "b.json"))).load()
    assert bots(loaded) == ["forge", "muse"]
    assert loaded.ok
    assert loaded.ready


async def test_a_change_is_seen_and_a_file_that_leaves_a_glob_takes_its_bots_along(
    tmp_path: Path, discover: Discover
) -> None:
    discovery = discover(files=(str(tmp_path / "*.json"),))
    assert bots(await discovery.load()) == []
    (tmp_path / "a.json").write_text(groups("forge"))
    (tmp_path / "b.json").write_text(groups("muse"))
    assert bots(await discovery.load()) == ["forge", "muse"]
    (tmp_path / "a.json").write_text(groups("atlas"))
    (tmp_path / "b.json").unlink()
    assert bots(await discovery.load()) == ["atlas"]


async def test_what_has_not_changed_is_the_same_object(tmp_path: Path, discover: Discover) -> None:
    """So a large fleet is neither compared bot by bot every refresh nor in memory twice."""
    path = tmp_path / "a.json"
    path.write_text(groups("forge", "muse"))
    discovery = discover(files=(str(path),))
    first = await discovery.load()
    assert (await discovery.load()).targets is first.targets
    path.write_text(groups("atlas", "forge", "muse"))
    changed = await discovery.load()
    assert bots(changed) == ["atlas", "forge", "muse"]
    assert all(new is old for new, old in zip(changed.targets[1:], first.targets, strict=True))


@pytest.mark.parametrize(
    "content", ["", "[", '[{"targets": ["127.0', "{}", "null", "\x00\xff", "[" * 100_000], ids=repr
)
@pytest.mark.parametrize("name", ["bots.json", "bots.yml"])
async def test_a_file_that_breaks_keeps_the_good_list_and_is_named(
    tmp_path: Path, discover: Discover, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(groups("forge", "muse"))
    discovery = discover(files=(str(path),))
    await discovery.load()
    path.write_text(content)
    loaded = await discovery.load()
    assert bots(loaded) == ["forge", "muse"]
    assert not loaded.ok
    (problem,) = loaded.unread
    assert problem.place == str(path)
    assert problem.remedy
    path.write_text(groups("atlas"))
    loaded = await discovery.load()
    assert (bots(loaded), loaded.ok) == (["atlas"], True)


async def test_a_bad_target_keeps_the_good_list_whole(tmp_path: Path, discover: Discover) -> None:
    """Else a slip in one name would silently end the watch over that bot."""
    path = tmp_path / "bots.json"
    path.write_text(groups("forge", "muse"))
    discovery = discover(files=(str(path),))
    await discovery.load()
    path.write_text(groups("forge", "Muse", "atlas"))
    loaded = await discovery.load()
    assert bots(loaded) == ["forge", "muse"]
    assert [problem.place for problem in loaded.invalid] == [f"{path}: group 1: label bot"]
    assert not loaded.ok


async def test_with_no_good_list_yet_the_good_targets_are_taken(tmp_path: Path, discover: Discover) -> None:
    path = tmp_path / "bots.json"
    path.write_text(groups("forge", "Muse"))
    loaded = await discover(files=(str(path),)).load()
    assert (bots(loaded), len(loaded.invalid), loaded.ready) == (["forge"], 1, True)


async def test_a_named_file_that_is_missing_is_a_problem_until_it_comes(
    tmp_path: Path, discover: Discover
) -> None:
    path = tmp_path / "bots.json"
    discovery = discover(files=(str(path),))
    loaded = await discovery.load()
    assert (loaded.ok, loaded.ready) == (False, False)
    assert "cannot be read" in str(loaded.unread[0])
    path.write_text(groups("forge"))
    assert (await discovery.load()).ready


async def test_an_empty_list_means_no_bots(tmp_path: Path, discover: Discover) -> None:
    path = tmp_path / "bots.json"
    path.write_text(groups("forge"))
    discovery = discover(files=(str(path),))
    await discovery.load()
    path.write_text("[]")
    loaded = await discovery.load()
    assert (bots(loaded), loaded.ok) == ([], True)


async def test_a_bot_listed_twice_names_both_places(tmp_path: Path, discover: Discover) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(groups("forge"))
    second.write_text(groups("muse", "forge"))
    loaded = await discover(files=(str(first), str(second))).load()
    assert bots(loaded) == ["forge", "muse"]
    (problem,) = loaded.invalid
    assert problem.place == f"{second}: group 1: label bot"
    assert f"{first}: group 0" in problem.why


async def test_a_huge_list_is_read(tmp_path: Path, discover: Discover) -> None:
    path = tmp_path / "bots.json"
    path.write_text(groups(*(f"bot-{n}" for n in range(20_000))))
    assert len((await discover(files=(str(path),)).load()).targets) == 20_000


class Service:
    """An http_sd service whose answer the test sets."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.body = groups("forge")
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        body = self.body.encode()
        head = f"HTTP/1.1 {self.status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


async def test_http_sd_is_asked_with_the_token_of_the_moment(
    tmp_path: Path, raw_bot: RawBot, discover: Discover
) -> None:
    service, token = Service(), tmp_path / "token"
    url = f"http://{await raw_bot(service)}/sd"
    discovery = discover(urls=(url,), url_token_file=token)
    token.write_text("one\n")
    assert bots(await discovery.load()) == ["forge"]
    token.write_text("two\n")
    await discovery.load()
    assert [b"Bearer one" in service.requests[0], b"Bearer two" in service.requests[1]] == [True, True]
    token.unlink()
    loaded = await discovery.load()
    assert bots(loaded) == ["forge"]
    assert "--targets.url-token-file" in str(loaded.unread[0])
    assert "two" not in str(loaded.unread[0])


@pytest.mark.parametrize(
    ("status", "body"), [("500 Oops", groups()), ("401 No", groups()), ("200 OK", "<html>"), ("200 OK", "{}")]
)
async def test_http_sd_that_answers_badly_keeps_the_good_list(
    raw_bot: RawBot, discover: Discover, status: str, body: str
) -> None:
    service = Service()
    url = f"http://{await raw_bot(service)}/sd"
    discovery = discover(urls=(url,))
    await discovery.load()
    service.status, service.body = status, body
    loaded = await discovery.load()
    assert (bots(loaded), loaded.ok, loaded.unread[0].place) == (["forge"], False, url)
    service.status, service.body = "200 OK", groups("muse")
    assert bots(await discovery.load()) == ["muse"]


async def test_http_sd_that_is_down_is_named_and_the_files_still_count(
    tmp_path: Path, discover: Discover
) -> None:
    path = tmp_path / "bots.json"
    path.write_text(groups("forge"))
    loaded = await discover(files=(str(path),), urls=("http://127.0.0.1:1/sd",)).load()
    assert (bots(loaded), loaded.ok, loaded.ready) == (["forge"], False, False)
    assert loaded.unread[0].place == "http://127.0.0.1:1/sd"
