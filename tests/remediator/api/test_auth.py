"""What is refused at the door: pages of other sites, foreign names, bodies but JSON, and no token."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers

from remediator.api.auth.middleware import Names, find_fault, host_of
from remediator.api.openapi import OPERATIONS
from remediator.app import create_app
from remediator.settings import SettingsError
from tests.remediator.conftest import TOKEN, Api, serve, settings_for

CALLS = [
    *((operation.method, re.sub(r"\{\w+\}", "nobody", operation.path)) for operation in OPERATIONS),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("PATCH", "/deploy"),
    ("OPTIONS", "/deploy"),
]
EVIL = "http://evil.example"
DEPLOY = {"botName": "forge", "botType": "support", "telegramToken": "42:t", "environment": "staging"}


@pytest.mark.parametrize(
    ("headers", "body", "status", "field"),
    [
        ({"Host": "evil.example"}, None, 421, "Host"),
        ({"Host": "evil.example:19000", "Origin": "http://evil.example:19000"}, None, 421, "Host"),
        ({"Host": "127.0.0.1.evil.example"}, None, 421, "Host"),
        ({"Origin": EVIL}, None, 403, "Origin"),
        ({"Origin": "null"}, None, 403, "Origin"),
        ({"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, None, 403, "Origin"),
        ({"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"}, None, 403, "Origin"),
        ({"Sec-Fetch-Site": "cross-site"}, None, 403, "Sec-Fetch-Site"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, None, 403, "Sec-Fetch-Site"),
        ({"Sec-Fetch-Site": "same-site"}, None, 403, "Sec-Fetch-Site"),
        ({"Content-Type": "text/plain"}, "{}", 415, "Content-Type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "{}", 415, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "{}", 415, "Content-Type"),
    ],
)
async def test_no_operation_answers_what_a_page_of_another_site_can_send_even_with_the_token(
    alone: Api, headers: Mapping[str, str], body: str | None, status: int, field: str
) -> None:
    for method, path in CALLS:
        answer = await alone.call(method, path, headers=headers, **({"data": body} if body else {}))
        assert (answer.status, answer.field) == (status, field), (method, path)
        assert answer.body["error"]["message"], path
        assert answer.body["error"]["remedy"], path
        assert TOKEN not in json.dumps(answer.body)


async def test_without_the_token_nothing_answers_but_what_is_open(alone: Api) -> None:
    closed = {operation.path for operation in OPERATIONS if operation.access == "token"}
    alone.token = ""
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "nobody", operation.path)
        answer = await alone.call(operation.method, path)
        assert (answer.status == 401) == (operation.path in closed), path


async def test_the_page_that_deployed_a_bot_deploys_none(alone: Api) -> None:
    """Fault A1, as Chromium sends it: `fetch(url, {method: "POST", mode: "no-cors", body})`."""
    page = {"Content-Type": "text/plain;charset=UTF-8", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    alone.token = ""
    answer = await alone.call("POST", "/deploy", data=json.dumps(DEPLOY), headers=page)
    assert answer.status == 403
    assert (await alone.call("POST", "/deploy", data=json.dumps(DEPLOY))).status == 401
    alone.token = TOKEN
    assert await alone.get("/sd") == []


async def test_it_is_asked_by_every_name_it_has(tmp_path: Path) -> None:
    names: dict[str, Any] = {
        "public_url": "https://bots.example.org/remediator",
        "allowed_hosts": ["remediator.internal"],
    }
    async with serve(settings_for(tmp_path / "remediator.db", **names)) as app:
        port = urlsplit(app.url).port
        for host in (
            "127.0.0.1",
            f"127.0.0.1:{port}",
            f"localhost:{port}",
            "LocalHost",
            "[::1]:19000",
            "10.1.2.3:19000",
            "bots.example.org",
            "remediator.internal:19000",
            "remediator.internal.",
        ):
            assert (await app.call("GET", "/-/ready", headers={"Host": host})).status == 200, host
            own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            assert (await app.call("GET", "/dashboard", headers=own)).status == 200, host
        answer = await app.call("GET", "/-/ready", headers={"Host": "bots"})
        assert answer.body["error"]["remedy"].endswith(
            "BOT_REMEDIATOR_ALLOWED_HOSTS=bots.example.org,remediator.internal,bots"
        )


async def test_json_is_json_with_a_charset_or_in_capitals_and_no_body_needs_no_type(alone: Api) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        answer = await alone.call("POST", "/holds", data=b"{}", headers={"Content-Type": kind})
        assert answer.status == 422, kind
    assert (await alone.call("DELETE", "/holds/1")).status == 404
    assert (await alone.call("GET", "/dashboard", headers={"Content-Type": "text/plain"})).status == 200


async def test_a_body_in_chunks_is_a_body(alone: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    answer = await alone.call("POST", "/holds", data=chunks(), headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.field) == (415, "Content-Type")


async def raw(url: str, head: str) -> int:
    """Return the status of the answer to exactly this."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        return int((await asyncio.wait_for(reader.readline(), 30)).split()[1])
    finally:
        writer.close()


async def test_hosts_that_no_client_library_sends(alone: Api) -> None:
    assert await raw(alone.url, "GET /-/ready HTTP/1.0") == 200, "a load balancer's probe"
    assert await raw(alone.url, "GET /dashboard HTTP/1.0") == 401
    for head in (
        "GET /-/ready HTTP/1.1\nHost: 127.0.0.1\nHost: evil.example",
        "GET /-/ready HTTP/1.1\nHost: evil.example\nHost: 127.0.0.1",
        "GET /-/ready HTTP/1.1\nHost:",
        "GET /-/ready HTTP/1.1",
    ):
        assert await raw(alone.url, head) in (400, 421), head


def fault(headers: Mapping[str, str], names: Names = Names(), method: str = "GET") -> str:  # noqa: B008
    """Return the field that is wrong; empty where none is."""
    fault = find_fault(method, Headers(headers), "1.1", names)
    return fault.field if fault else ""


def test_a_person_may_follow_a_link_from_elsewhere_but_a_page_may_not_embed_or_post() -> None:
    page = {"host": "127.0.0.1", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    link = {**page, "sec-fetch-dest": "document"}
    assert fault(link) == ""
    assert fault(link, method="POST") == "Sec-Fetch-Site"
    assert fault({**link, "origin": EVIL}) == "Origin"
    assert fault({**page, "sec-fetch-dest": "iframe"}) == "Sec-Fetch-Site"
    assert fault(page) == "Sec-Fetch-Site"
    assert fault({"host": "127.0.0.1", "sec-fetch-site": "none"}) == ""
    assert fault({"host": "127.0.0.1", "sec-fetch-site": "nonsense"}) == "Sec-Fetch-Site"


def test_the_public_url_is_an_origin_of_ours_where_a_proxy_changes_the_host() -> None:
    names = Names(origin="https://bots.example.org")
    host = {"host": "10.0.0.1:19000"}
    assert fault({**host, "origin": "https://bots.example.org"}, names) == ""
    for origin in ("https://bots.example.org:8443", "http://bots.example.org", "https://example.org"):
        assert fault({**host, "origin": origin}, names) == "Origin"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("", ""),
        ("https://Bots.example.org/x/", "https://bots.example.org"),
        ("https://bots.example.org:443", "https://bots.example.org"),
        ("http://bots.example.org:8080", "http://bots.example.org:8080"),
        ("http://[::1]:19000", "http://[::1]:19000"),
    ],
)
def test_origins_are_as_browsers_write_them(tmp_path: Path, url: str, origin: str) -> None:
    assert Names.of(settings_for(tmp_path / "x.db", public_url=url)).origin == origin


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("a.example", "a.example"),
        ("A.Example.:80", "a.example"),
        ("[::1]", "::1"),
        ("[::1]:80", "::1"),
        ("", None),
        (":80", None),
        (".", None),
        ("::1", None),
        ("a b", None),
        ("user@127.0.0.1", None),
        ("127.0.0.1/x", None),
        ("127.0.0.1:80:80", None),
        ("127.0.0.1\n", None),
        ("\x1b[31m", None),
        ("bücher.example", None),
    ],
)
def test_an_authority_is_a_host_and_maybe_a_port(authority: str, host: str | None) -> None:
    assert host_of(authority) == host


# the token


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "\xfc"])
async def test_without_the_token_only_the_open_paths_answer(alone: Api, token: str) -> None:
    alone.token = token
    for operation in OPERATIONS:
        answer = await alone.call(operation.method, re.sub(r"\{\w+\}", "nobody", operation.path))
        if operation.access == "token":
            assert (answer.status, answer.field) == (401, "Authorization"), operation.path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in json.dumps(answer.body)
        else:
            assert answer.status == 200, operation.path
    assert (await alone.call("GET", "/openapi.json")).status == 401
    assert (await alone.call("GET", "/nowhere")).status == 401


async def test_metrics_and_discovery_can_be_closed(tmp_path: Path) -> None:
    async with serve(settings_for(tmp_path / "remediator.db", open_metrics=False)) as app:
        for path in ("/metrics", "/sd"):
            assert (await app.call("GET", path)).status == 200
        app.token = ""
        for path in ("/metrics", "/sd"):
            assert (await app.call("GET", path)).status == 401
        assert (await app.call("GET", "/-/ready")).status == 200


async def test_metrics_and_discovery_are_open_on_loopback_alone_unless_a_setting_opens_them(
    tmp_path: Path,
) -> None:
    for open_metrics, status in [("loopback", 401), (False, 401), (True, 200)]:
        listen = ("0.0.0.0", 0)
        settings = settings_for(tmp_path / "remediator.db", listen=listen, open_metrics=open_metrics)
        async with serve(settings) as app:
            app.token = ""
            for path in ("/metrics", "/sd"):
                assert (await app.call("GET", path)).status == status


def test_nothing_is_served_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BOT_REMEDIATOR_TOKEN"):
        create_app(settings_for(tmp_path / "remediator.db", token=None))
