"""Following a run: by events, by asking again where they break off, and through a restart of the service."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from botctl.client import Client
from botctl.errors import BotctlError, Exit, RefusedError, UnreachableError
from botctl.follow import data, ended, follow

Answers = list[Callable[[BaseHTTPRequestHandler], None]]


class Fake:
    """A service that answers from a list, one request after another; the last answer stays."""

    def __init__(self) -> None:
        self.answers: Answers = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def client(self) -> Client:
        return Client(self.url, "word")

    url = ""


@pytest.fixture
def fake() -> Iterator[Fake]:
    state = Fake()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            state.requests.append((self.command, self.path, dict(self.headers)))
            answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            answer(self)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 -- as http.server wants them named

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def answer(status: int, body: object, kind: str = "application/json", **headers: str) -> Any:
    def send(handler: BaseHTTPRequestHandler) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return send


def events(*views: object) -> Any:
    body = b": hello\n\n" + b"".join(f"event: step\ndata: {json.dumps(view)}\n\n".encode() for view in views)
    return answer(200, body, "text/event-stream")


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection, as a service that is killed."""
    handler.close_connection = True


def view(percent: int, finished: str | None = None) -> dict[str, Any]:
    return {"deploymentId": "dep-1", "status": "running", "percent": percent, "finishedAt": finished}


END = view(100, "2026-11-22T10:00:00Z")


def followed(fake: Fake, *, timeout: float = 60) -> list[Any]:
    """Follow a run with a clock that only sleeping moves on; return the views."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return list(
        follow(fake.client(), "/deploy/dep-1", timeout=timeout, monotonic=lambda: now[0], sleep=sleep)
    )


def test_events_are_followed_to_the_end(fake: Fake) -> None:
    fake.answers = [events(view(0), view(50), END)]
    assert followed(fake) == [view(0), view(50), END]
    assert [path for _, path, _ in fake.requests] == ["/deploy/dep-1?watch=true"]
    assert "text/event-stream" in fake.requests[0][2]["Accept"]


def test_a_stream_that_breaks_off_is_taken_up_again_and_nothing_is_told_twice(fake: Fake) -> None:
    fake.answers = [events(view(0), view(50)), events(view(50), END)]
    assert followed(fake) == [view(0), view(50), END]


def test_a_service_without_events_is_asked_again_and_again(fake: Fake) -> None:
    fake.answers = [answer(200, body) for body in (view(0), view(0), view(50), END)]
    assert followed(fake) == [view(0), view(50), END]


def test_a_service_that_is_killed_meanwhile_is_waited_for(fake: Fake) -> None:
    fake.answers = [events(view(0)), drop, drop, answer(200, view(70)), answer(200, END)]
    assert followed(fake) == [view(0), view(70), END]


def test_a_service_that_stays_away_is_given_up_after_a_while(fake: Fake) -> None:
    fake.answers = [events(view(0)), drop]
    with pytest.raises(UnreachableError):
        followed(fake, timeout=1000)
    assert 55 < len(fake.requests) < 70


def test_a_service_that_was_never_there_is_not_waited_for(fake: Fake) -> None:
    fake.answers = [drop]
    with pytest.raises(UnreachableError):
        followed(fake)
    assert len(fake.requests) == 1


def test_no_longer_than_it_was_asked_to(fake: Fake) -> None:
    fake.answers = [answer(200, view(0))]
    assert followed(fake, timeout=3.5) == [view(0)]
    assert len(fake.requests) == 4
    assert not ended(view(0))


def test_data_of_events_may_take_lines_and_comments_are_none() -> None:
    text = b": hi\nevent: x\ndata: a\r\ndata:b\n\nid: 1\n\ndata: c\n\n"
    assert list(data(iter(text.splitlines(keepends=True)))) == ["a\nb", "c"]


# what the client makes of answers


@pytest.mark.parametrize(
    ("status", "error", "code", "message"),
    [
        (404, {"field": "path", "message": "Not Found"}, Exit.unknown, "this service has no call GET /cost"),
        (405, {"field": "path"}, Exit.unknown, "this service has no call GET /cost"),
        (404, {"field": "bot", "message": "there is no 'x'"}, Exit.unknown, "bot: there is no 'x'"),
        (
            401,
            {"field": "Authorization", "message": "is wrong"},
            Exit.unauthorised,
            "Authorization: is wrong",
        ),
        (409, {"message": "is busy", "remedy": "wait"}, Exit.failed, "is busy"),
        (503, {"message": "the store cannot be used"}, Exit.unreachable, "the store cannot be used"),
    ],
)
def test_each_refusal_has_its_words_and_its_code(
    fake: Fake, status: int, error: dict[str, str], code: Exit, message: str
) -> None:
    fake.answers = [answer(status, {"error": error})]
    with pytest.raises(RefusedError) as refused:
        fake.client().get("/cost")
    assert (refused.value.code, refused.value.message) == (code, message)
    assert refused.value.remedy or "remedy" not in error


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"[]", b'{"error": "text"}', b""])
def test_a_refusal_by_something_else_is_told_by_its_status(fake: Fake, body: bytes) -> None:
    fake.answers = [answer(502, body, "text/html")]
    with pytest.raises(RefusedError, match="GET /holds was answered with 502") as refused:
        fake.client().get("/holds")
    assert refused.value.code == Exit.unreachable


def test_a_redirect_is_not_followed_so_the_token_goes_nowhere_else(fake: Fake) -> None:
    fake.answers = [answer(302, b"", Location=f"{fake.url}/elsewhere")]
    with pytest.raises(RefusedError, match="answered with 302"):
        fake.client().get("/holds")
    assert [path for _, path, _ in fake.requests] == ["/holds"]
    assert fake.requests[0][2]["Authorization"] == "Bearer word"


def test_an_answer_that_is_no_json_is_told_as_that(fake: Fake) -> None:
    fake.answers = [answer(200, b"<html>", "text/html")]
    with pytest.raises(BotctlError, match="the answer is no JSON"):
        fake.client().get("/holds").json()
