"""Sources of targets: real files and a real HTTP service, changing, broken and gone."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from exporter.fleet.discovery import Discovery, Loaded
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
    assert problem.location == str(path)
    assert problem.remedy
    path.write_text(groups("atlas"))
    loaded = await discovery.load()
    assert (bots(loaded), loaded.ok) == (["atlas"], True)


@pytest.mark.parametrize("before", [(), ("forge", "muse")])
async def test_a_bad_target_is_dropped_and_named_and_the_list_is_taken(
    tmp_path: Path, discover: Discover, before: tuple[str, ...]
) -> None:
    path = tmp_path / "bots.json"
    path.write_text(groups(*before))
    discovery = discover(files=(str(path),))
    await discovery.load()
    path.write_text(groups("forge", "Muse", "atlas"))
    loaded = await discovery.load()
    assert bots(loaded) == ["forge", "atlas"]
    assert [problem.location for problem in loaded.invalid] == [f"{path}: group 1: label bot"]
    assert (loaded.ok, loaded.ready) == (False, True)


async def test_a_list_with_nothing_good_in_it_changes_nothing(tmp_path: Path, discover: Discover) -> None:
    """What wrote it is broken: better the bots of before than none."""
    path = tmp_path / "bots.json"
    path.write_text(groups("forge", "muse"))
    discovery = discover(files=(str(path),))
    await discovery.load()
    path.write_text(groups("Forge", "Muse"))
    loaded = await discovery.load()
    assert (bots(loaded), len(loaded.invalid), loaded.ok) == (["forge", "muse"], 2, False)
    path.write_text(groups("muse"))
    assert bots(await discovery.load()) == ["muse"]


@pytest.mark.parametrize(
    "text",
    [
        "- targets: ['127.0.0.1:1']\n  targets: ['127.0.0.1:2']\n  labels: {bot: forge}\n",
        "- targets: ['127.0.0.1:1']\n  labels: {bot: forge, bot: muse}\n",
    ],
)
async def test_a_doubled_key_is_refused_and_named(tmp_path: Path, discover: Discover, text: str) -> None:
    path = tmp_path / "bots.yml"
    path.write_text("- targets: ['127.0.0.1:1']\n  labels: {bot: atlas}\n")
    discovery = discover(files=(str(path),))
    await discovery.load()
    path.write_text(text)
    loaded = await discovery.load()
    assert bots(loaded) == ["atlas"]
    assert "stands twice, line" in str(loaded.unread[0])


async def test_a_url_with_a_secret_is_named_without_it(raw_bot: RawBot, discover: Discover) -> None:
    service = Service()
    address = await raw_bot(service)
    down = "http://admin:hunter2@127.0.0.1:1/sd?token=hunter3&page=2"
    odd = f"http://admin:hunter2@{address}/sd?hunter3"
    service.body = groups("Forge")
    loaded = await discover(urls=(down, odd)).load()
    told = " ".join(map(str, (*loaded.unread, *loaded.invalid)))
    assert "http://***@127.0.0.1:1/sd?token=***&page=2: no answer" in told
    assert f"http://***@{address}/sd?***: group 0: label bot" in told
    assert "hunter" not in told
    assert b"Authorization: Basic" in service.requests[0]


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
    assert problem.location == f"{second}: group 1: label bot"
    assert f"{first}: group 0" in problem.reason


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
    assert (bots(loaded), loaded.ok, loaded.unread[0].location) == (["forge"], False, url)
    service.status, service.body = "200 OK", groups("muse")
    assert bots(await discovery.load()) == ["muse"]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("401 No", "--targets.url-token-file"),
        ("403 No", "--targets.url-token-file"),
        ("421 Misdirected Request", "BOT_REMEDIATOR_ALLOWED_HOSTS"),
        ("500 Oops", "check the service"),
    ],
)
async def test_a_refusal_of_http_sd_says_what_to_mend(
    raw_bot: RawBot, discover: Discover, status: str, remedy: str
) -> None:
    service = Service()
    service.status = status
    loaded = await discover(urls=(f"http://{await raw_bot(service)}/sd",)).load()
    assert remedy in loaded.unread[0].remedy


async def test_http_sd_that_is_down_is_named_and_the_files_still_count(
    tmp_path: Path, discover: Discover
) -> None:
    path = tmp_path / "bots.json"
    path.write_text(groups("forge"))
    loaded = await discover(files=(str(path),), urls=("http://127.0.0.1:1/sd",)).load()
    assert (bots(loaded), loaded.ok, loaded.ready) == (["forge"], False, False)
    assert loaded.unread[0].location == "http://127.0.0.1:1/sd"
