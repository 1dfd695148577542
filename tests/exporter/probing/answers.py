"""Odd answers, as frameworks, proxies and mistakes make them, each with its one verdict.

Every transport and every caller has to reach it: test_one_verdict.py asks them all.
"""

import gzip
import zlib
from dataclasses import dataclass

from exporter.result import Reason

WELL = None
BAD, ILL, STATUS, CUT = Reason.bad_payload, Reason.not_ok, Reason.http_status, Reason.disconnected


@dataclass(frozen=True)
class Answer:
    """What a bot sends before it closes the connection, and what is made of it."""

    name: str
    raw: bytes
    verdict: Reason | None = WELL
    says: str = ""
    """Words of the detail, where it is ill."""


def body(content: bytes | str, kind: str = "application/json", *, more: str = "") -> bytes:
    raw = content if isinstance(content, bytes) else content.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


def head(lines: bytes) -> bytes:
    """Return an answer `ok` below these lines of a head."""
    return lines + b"Content-Length: 2\r\n\r\nok"


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HTML = "text/html; charset=utf-8"
PAGE = "<!doctype html><html lang=en><head><title>OpenClaw Control</title></head><body></body></html>"

BODIES = (
    Answer("OpenClaw", body('{"ok":true,"status":"live"}')),
    Answer("nothing", body("", "text/plain")),
    Answer("nothing as JSON", body("")),
    Answer("OK as HTML", body("OK", HTML)),
    Answer("a page of its own", body("<!doctype html><h1>All systems are up</h1>", HTML)),
    Answer("a page without a doctype", body("<html><body>ok</body></html>", HTML)),
    Answer("OpenClaw's page", body(PAGE, HTML), BAD, "web page"),
    Answer(
        "OpenClaw's page, by its element", body("<html><openclaw-app></openclaw-app>", HTML), BAD, "web page"
    ),
    Answer("Clawdbot's page", body("\n<html><title>Clawdbot Control</title>", "text/plain"), BAD, "web page"),
    Answer("OpenClaw's page, gzipped unasked", body(gzip.compress(PAGE.encode()), HTML), BAD, "web page"),
    Answer("XML", body("<status>UP</status>", "application/xml")),
    Answer("broken JSON", body("{broken")),
    Answer("half of a JSON", body('{"ok": tr')),
    Answer("single quotes", body("{'ok': False}")),
    Answer("deep JSON", body("[" * 50_000)),
    Answer("a BOM", body(b'\xef\xbb\xbf{"ok": true}')),
    Answer("a BOM before an ill word", body(b'\xef\xbb\xbf{"status": "DOWN"}'), ILL, "DOWN"),
    Answer("UTF-16", body('{"ok": true}'.encode("utf-16"))),
    Answer("UTF-16 that is ill", body('{"ok": false}'.encode("utf-16")), ILL, '"ok": false'),
    Answer("UTF-16 without a BOM that is ill", body('{"ok": false}'.encode("utf-16-le")), ILL, '"ok": false'),
    Answer("Latin-1", body('{"name": "Zoë"}'.encode("latin-1"))),
    Answer("Latin-1 that is ill", body('{"name": "Zoë", "ok": false}'.encode("latin-1")), ILL, '"ok": false'),
    Answer("no UTF-8", body(b'{"status": "\xff\xfe"}')),
    Answer("NaN", body('{"ok": true, "load": NaN}')),
    Answer("NaN beside an ill word", body('{"status": "unhealthy", "load": NaN}'), ILL, "unhealthy"),
    Answer("Infinity", body('{"uptime": Infinity}')),
    Answer("a number of 5,000 digits", body('{"n": ' + "9" * 5000 + "}")),
    Answer("a lone surrogate", body('{"name": "\\ud800"}')),
    Answer(
        "gzip that nobody asked for", body(gzip.compress(b'{"ok": true}'), more="Content-Encoding: gzip\r\n")
    ),
    Answer("gzip that is ill", body(gzip.compress(b'{"ok": false}')), ILL, '"ok": false'),
    Answer("zlib that is ill", body(zlib.compress(b'{"status": "down"}')), ILL, "down"),
    Answer("gzip that is broken", body(b"\x1f\x8b\x08\x00rubbish")),
    Answer("a gzip bomb", body(gzip.compress(b" " * 50_000_000)[:60_000])),
    Answer("brotli", body(b"\x0b\x02\x80\x00\x01\x02\x03", more="Content-Encoding: br\r\n")),
    Answer("larger than is read", body("x" * 70_000, "text/plain")),
    Answer("JSON larger than is read", body('{"x": "' + "x" * 70_000 + '"}')),
    Answer("a list", body("[1, 2]")),
    Answer("two documents", body('{"ok": false}\n{"ok": true}'), ILL, '"ok": false'),
    Answer("guarded against scripts", body(')]}\',\n{"ok": false}'), ILL, '"ok": false'),
    Answer("NULs after it", body(b'{"ok": true}\0\0')),
    Answer("text", body("I am fine, thank you; the weather is down here somewhat unhealthy.", "text/plain")),
)

WORDS = (
    *(
        Answer(f"says {content}", body(content), ILL, words)
        for content, words in (
            ('{"ok": false}', '"ok": false'),
            ('{"OK": false}', '"OK": false'),
            ('{"ok": "false"}', '"ok"'),
            ('{"ok": 0}', '"ok": 0'),
            ('{"healthy": false}', '"healthy": false'),
            ('{"isHealthy": false}', '"isHealthy": false'),
            ('{"Healthy": "No"}', '"Healthy"'),
            ('{"alive": false}', '"alive"'),
            ('{"success": false, "error": "no key"}', '"success"'),
            ('{"status": "unhealthy"}', '"status": "unhealthy"'),
            ('{"Status": "Unhealthy"}', '"Status": "Unhealthy"'),
            ('{"STATUS": "DOWN"}', '"STATUS": "DOWN"'),
            ('{"status": "fail"}', "fail"),
            ('{"status": "OUT_OF_SERVICE"}', "OUT_OF_SERVICE"),
            ('{"status": "Not OK!"}', "Not OK!"),
            ('{"status": "not-healthy"}', "not-healthy"),
            ('{"status": 503}', '"status": 503'),
            ('{"status": false}', '"status": false'),
            ('{"state": "CRITICAL"}', '"state": "CRITICAL"'),
            ('{"health": "red"}', '"health": "red"'),
            ('{"ok": true, "status": "error"}', '"status": "error"'),
            ('{"health": {"status": "DOWN"}}', '"health.status": "DOWN"'),
            ('{"data": {"healthy": false}}', '"data.healthy": false'),
            ('{"status": {"state": "failed"}}', '"status.state": "failed"'),
            ('"unhealthy"', "unhealthy"),
            ("DOWN\n", "down"),
            ("not ok", "not_ok"),
            ("false", "false"),
        )
    ),
    *(
        Answer(f"does not say ill: {content}", body(content))
        for content in (
            '{"ok": null}',
            '{"ok": {}}',
            '{"status": "degraded"}',
            '{"status": "UP", "components": {"db": {"status": "DOWN"}}}',
            '{"status": "ok", "data": {"healthy": false}}',
            '{"status": "warn"}',
            '{"status": "starting"}',
            '{"status": 200}',
            '{"status": 0}',
            '{"status": []}',
            '{"status": "' + "x" * 5000 + '"}',
            '{"statuses": ["down"]}',
            '{"ready": false}',
            '{"message": "error"}',
            '{"error": null}',
            "UP",
            "0",
            "null",
        )
    ),
)

HEADS = (
    Answer("a head of 9 KB", head(OK + b"X-Trace: " + b"t" * 9_000 + b"\r\n")),
    Answer("a head of 100 KB", head(OK + b"X-Trace: " + b"t" * 100_000 + b"\r\n")),
    Answer("150 cookies", head(OK + b"".join(b"Set-Cookie: c%d=1\r\n" % n for n in range(150)))),
    Answer("3,000 fields", head(OK + b"X-A: b\r\n" * 3_000)),
    Answer("a head without end", OK + b"X-A: b\r\n" * 40_000, BAD, "headers are larger"),
    Answer("no reason", head(b"HTTP/1.1 200\r\n")),
    Answer("a reason in UTF-8", head("HTTP/1.1 200 Öffnet\r\n".encode())),
    Answer("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nok"),
    Answer("HTTP/1.2", head(b"HTTP/1.2 200 OK\r\n")),
    Answer("HTTP/2 200", head(b"HTTP/2 200\r\n")),
    Answer("http/1.1 in lower case", head(b"http/1.1 200 ok\r\n")),
    Answer("two spaces", head(b"HTTP/1.1  200 OK\r\n")),
    Answer("empty lines first", head(b"\r\n\r\n" + OK)),
    Answer("LF alone", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    Answer("a space before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    Answer("a folded field", head(OK + b"X-A: a\r\n b\r\n")),
    Answer("Latin-1 in a field", head(OK + b"X-A: caf\xe9\r\n")),
    Answer("a control character in a field", head(OK + b"X-A: a\x01b\r\n")),
    Answer("a NUL in a field", head(OK + b"X-A: a\0b\r\n")),
    Answer("a space in a name", head(OK + b"X A: a\r\n")),
    Answer("no colon", head(OK + b"nonsense\r\n")),
    Answer("no name", head(OK + b": a\r\n")),
    Answer("the same length twice", head(OK + b"Content-Length: 2\r\n")),
    Answer("the same length in one field", OK + b"Content-Length: 2, 2\r\n\r\nok"),
    Answer("two lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345", BAD, "no HTTP answer"),
    Answer("a length with a sign", OK + b"Content-Length: +2\r\n\r\nok"),
    Answer("no length and no end but the connection's", OK + b"\r\nto the end"),
    Answer(
        "a length and chunks",
        OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    Answer("chunks", CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    Answer("chunks with extensions", CHUNKED + b'2;a="b"\r\nok\r\n0\r\n\r\n'),
    Answer("chunks padded with spaces", CHUNKED + b"2  \r\nok\r\n0  \r\n\r\n"),
    Answer("trailers", CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
    Answer("a chunk that is none", CHUNKED + b"NOT HEX\r\nhello\r\n", BAD, "no HTTP answer"),
    Answer("a chunk that is none, later", CHUNKED + b"2\r\nok\r\nNOT HEX\r\n", BAD, "no HTTP answer"),
    Answer("100 Continue first", b"HTTP/1.1 100 Continue\r\n\r\n" + body("{}")),
    Answer("early hints first", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + body("{}")),
    Answer("100 without end", b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, BAD, "larger"),
    Answer("101", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", STATUS, "101"),
    Answer("an upgrade offered", head(OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n")),
    Answer("more than was asked for", body("{}") + body('{"ok": false}')),
    Answer("201", b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
    Answer("204", b"HTTP/1.1 204 No Content\r\n\r\n"),
    Answer("206", b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nok"),
    Answer("301", b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", STATUS, "301"),
    Answer("304", b"HTTP/1.1 304 Not Modified\r\n\r\n", STATUS, "304"),
    Answer("401", b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", STATUS, "401"),
    Answer("404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", STATUS, "404"),
    Answer("408", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", STATUS, "408"),
    Answer("429", b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n", STATUS, "429"),
    Answer("503 and well", b'HTTP/1.1 503 No\r\nContent-Length: 11\r\n\r\n{"ok":true}', STATUS, "503"),
    Answer("599", b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", STATUS, "599"),
    Answer("a status of four digits", head(b"HTTP/1.1 2000 OK\r\n"), BAD, "no HTTP answer"),
    Answer("HTTP/0.9", b"ok, no head at all, only a body", BAD, "no HTTP answer"),
    Answer("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BAD, "no HTTP answer"),
    Answer("TLS", b"\x15\x03\x01\x00\x02\x02\x46" + b"\0" * 20, BAD, "no HTTP answer"),
    Answer("nothing at all", b"", CUT, "without an answer"),
    Answer("half of a head", b"HTTP/1.1 200 OK\r\nX-A: ", CUT, "in the middle"),
    Answer("half of a body", OK + b"Content-Length: 100\r\n\r\nhalf", CUT, "in the middle"),
    Answer("half of a chunk", CHUNKED + b"64\r\nhalf", CUT, "in the middle"),
)

ANSWERS: tuple[Answer, ...] = (*BODIES, *WORDS, *HEADS)

NUMBERED: tuple[tuple[str, Answer], ...] = tuple(
    (f"/{number}", answer) for number, answer in enumerate(ANSWERS)
)
"""Each answer with the path that it is asked by."""
