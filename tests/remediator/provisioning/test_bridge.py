"""The plugin that answers /mesh, beside events and a gateway of ours. For real: test_openclaw, tests/boot."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from remediator.provisioning.cloudinit import BRIDGE, INSTANCE
from sandbox.process.openclaw import present

SCRIPT = """
import { createServer } from "node:http";
const [status, failing, events, lost] = JSON.parse(process.argv[1]);
const server = createServer((request, response) => {
  const ready = request.url === "/ready";
  const body = ready ? { failing, eventLoop: { utilization: 0.5 } } : {};
  response.writeHead(ready ? status : 200).end(JSON.stringify(body));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const { port } = server.address();
const hub = { url: `http://127.0.0.1:${port}` };
const peers = { hub, gone: { url: "http://127.0.0.1:1" }, odd: { url: "?" } };
const channels = { telegram: {}, irc: { enabled: false }, defaults: {}, a2a: { peers } };
const agents = { defaults: { model: { primary: "nowhere/far/away", fallbacks: [] } } };
const hooks = {};
const listeners = [];
let route;
const { default: plugin } = await import(process.argv[2]);
const current = () => ({ gateway: { port }, channels, agents });
const onAgentEvent = (listener) => listeners.push(listener);
for (let times = 0; times < 2; times++) // OpenClaw may load it more than once: listeners add up, hooks do not
  plugin.register({
    runtime: { version: "1.2.3", config: { current }, events: { onAgentEvent } },
    pluginConfig: { config_sha: "c0ffee" },
    on: (name, hook) => (hooks[name] = hook),
    registerHttpRoute: (description) => (route = description),
  });
for (const [name, event] of events)
  for (const call of name === "agent" ? listeners : [hooks[name]]) call(event);
const response = { writeHead: () => response, end: (body) => console.log(body) };
await route.handler({}, response);
server.close();
if (lost) { // from now on nothing answers, and what was seen before is old
  server.closeAllConnections();
  const now = performance.now.bind(performance);
  performance.now = () => now() + 60_000;
  await route.handler({}, response);
}
process.exit(); // the connections that fetch keeps would be waited for
"""


@pytest.fixture(scope="module")
def node() -> str:
    program = present()
    path = program.argv()[0] if program is not None else shutil.which("node")
    if path is None:
        pytest.skip("there is no node, and no OpenClaw in .cache/openclaw")
    return path


def mesh(
    node: str, status: int = 200, failing: list[str] | None = None, events: Any = (), lost: bool = False
) -> dict[str, Any]:
    argument = json.dumps([status, failing or [], events, lost])
    argv = [node, "--input-type=module", "-e", SCRIPT, argument, str(INSTANCE / BRIDGE / "index.js")]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(
    ("status", "failing", "ok", "telegram"),
    [
        (200, [], True, True),
        (503, ["telegram"], True, False),
        (503, ["startup-sidecars"], False, False),
        (503, ["telegram", "state-database"], False, False),
    ],
)
def test_a_channel_that_is_down_is_told_as_one_and_as_a_peer(
    node: str, status: int, failing: list[str], ok: bool, telegram: bool
) -> None:
    """What is no channel keeps all of them from working."""
    answer = mesh(node, status, failing)
    assert answer["ok"] is ok
    assert answer["channels"] == [{"name": "telegram", "up": telegram}]
    assert answer["peers"] == [
        {"name": "telegram", "up": telegram},
        {"name": "hub", "up": True},
        {"name": "gone", "up": False},
    ]


@pytest.mark.parametrize(("failing", "up"), [([], True), (["telegram"], False)])
def test_no_answer_of_ready_in_time_is_no_news_of_channels(node: str, failing: list[str], up: bool) -> None:
    answer = mesh(node, failing=failing, lost=True)
    assert answer["ok"] is True
    assert answer["channels"] == [{"name": "telegram", "up": up}]
    assert answer["peers"][1:] == [{"name": "hub", "up": False}, {"name": "gone", "up": False}]


CALL = {"runId": "r", "callId": "r:1", "provider": "anthropic", "model": "claude-haiku-4-5"}
ERROR = ["model_call_ended", {**CALL, "outcome": "error"}]


def test_requests_tokens_and_context_are_counted_in_all_and_by_model(node: str) -> None:
    """Cached tokens are input. A turn may make several calls of the model: the last one fills the window."""
    first = {"input": 100, "cacheRead": 900, "cacheWrite": 50, "output": 20}
    last = {"usage": {"input": 10, "cacheRead": 480, "output": 10}}
    other = {"provider": "openai", "model": "gpt-5"}
    nothing = {"usage": {"input": 0, "output": 0}}
    answer = mesh(
        node,
        events=[
            ["model_call_ended", {**CALL, "outcome": "completed"}],
            ["model_call_ended", {**CALL, **other, "outcome": "completed"}],
            ["llm_output", {**CALL, "usage": first, "lastAssistant": last, "contextTokenBudget": 1000}],
            ["llm_output", {**CALL, **other, "usage": {"input": -5, "output": None}}],
            ["llm_output", {**CALL, "lastAssistant": nothing, "contextTokenBudget": 1000}],
            ["agent_end", {"runId": "r", "messages": [{"stopReason": "stop"}]}],
        ],
    )
    usage = answer["usage"]
    haiku = {"requests": 1, "failed": 0, "input_tokens": 1050, "output_tokens": 20}
    gpt = {"requests": 1, "failed": 0, "input_tokens": 0, "output_tokens": 0}
    assert usage.pop("models") == {"anthropic/claude-haiku-4-5": haiku, "openai/gpt-5": gpt}
    assert usage == {"requests": 2, "failed": 0, "input_tokens": 1050, "output_tokens": 20, "failed_by": {}}
    assert answer["context_usage"] == 0.5, "a turn that failed fills nothing"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"errorCode": "404", "errorMessage": "404 model: claude-1"}, "model_not_found"),
        ({"errorMessage": '401 {"type":"error","error":{"type":"authentication_error"}}'}, "auth"),
        ({"errorMessage": "400 Your credit balance is too low to access the Anthropic API"}, "billing"),
        ({"errorCode": "429", "errorMessage": "exceed your organization's limit"}, "rate_limit"),
        ({"errorMessage": "529 Overloaded"}, "overloaded"),
        ({"errorMessage": "Request timed out."}, "timeout"),
        ({"errorMessage": "not_found_error: model: claude-1"}, "model_not_found"),
        ({"errorMessage": '{"error":{"code":"model_not_found"}}'}, "model_not_found"),
        ({"errorMessage": "500 Internal server error"}, "other"),
        ({"errorMessage": "getaddrinfo ENOTFOUND api.anthropic.com"}, "other"),
        ({"errorMessage": "prompt is too long: 204029 tokens"}, "other"),
        ({"errorMessage": "500 api_error (request req_011CS429xGq5034041Z)"}, "other"),
        ({"errorMessage": "connect ECONNREFUSED 10.0.4.29:50400"}, "other"),
        ({}, "other"),
        (None, "other"),
    ],
)
def test_failed_calls_are_counted_by_what_their_turn_says(node: str, said: Any, kind: str) -> None:
    """A turn may try more than once; another's end settles nothing of it."""
    messages = [{"role": "user"}] if said is None else [{"role": "user"}, {"stopReason": "error", **said}]
    end = {"runId": "r", "messages": messages}
    usage = mesh(node, events=[ERROR, ERROR, ["agent_end", {**end, "runId": "s"}]])["usage"]
    assert (usage["failed"], usage["failed_by"]) == (0, {})
    usage = mesh(node, events=[ERROR, ERROR, ["agent_end", end], ["agent_end", end]])["usage"]
    assert (usage["requests"], usage["failed"], usage["failed_by"]) == (0, 2, {kind: 2})
    assert usage["models"]["anthropic/claude-haiku-4-5"]["failed"] == 2


def test_a_call_that_ended_with_an_error_has_failed_though_it_is_called_completed(node: str) -> None:
    said = {"stopReason": "error", "errorMessage": "not_found_error"}
    end = ["agent_end", {"runId": "r", "messages": [said]}]
    completed = ["model_call_ended", {**CALL, "outcome": "completed"}]
    usage = mesh(node, events=[completed, completed, end])["usage"]
    assert (usage["requests"], usage["failed"], usage["failed_by"]) == (1, 1, {"model_not_found": 1})


def test_a_call_that_timed_out_on_the_way_is_a_timeout_whatever_the_turn_says(node: str) -> None:
    lost = ["model_call_ended", {**CALL, "outcome": "error", "failureKind": "timeout"}]
    usage = mesh(node, events=[lost, ["agent_end", {"runId": "r"}]])["usage"]
    assert usage["failed_by"] == {"timeout": 1}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ('No API key found for provider "nowhere"', "auth"),
        ("Unknown model: nowhere/far/away", "model_not_found"),
        (None, "other"),
    ],
)
def test_a_turn_that_fails_before_it_calls_a_model_has_failed_once(
    node: str, error: str | None, kind: str
) -> None:
    def lifecycle(phase: str, run: str) -> list[object]:
        return ["agent", {"runId": run, "stream": "lifecycle", "data": {"phase": phase, "error": error}}]

    told = ["agent", {"runId": "t", "stream": "tool", "data": {"phase": "error"}}]
    began = ["model_call_started", CALL]
    end = ["agent_end", {"runId": "r", "messages": [{"stopReason": "error", "errorMessage": "529"}]}]
    usage = mesh(node, events=[lifecycle("start", "s"), lifecycle("error", "s"), told])["usage"]
    assert (usage["requests"], usage["failed"], usage["failed_by"]) == (0, 1, {kind: 1})
    assert usage["models"]["nowhere/far/away"]["failed"] == 1
    usage = mesh(node, events=[began, ERROR, end, lifecycle("error", "r")])["usage"]
    assert (usage["failed"], usage["failed_by"]) == (1, {"overloaded": 1}), "its call was counted"


def test_the_age_of_a_turn_is_that_of_its_oldest_call_that_runs(node: str) -> None:
    older, newer = ["model_call_started", CALL], ["model_call_started", {**CALL, "callId": "r:2"}]
    ended = ["model_call_ended", {**CALL, "outcome": "completed"}]
    assert mesh(node, events=[older, newer])["turn_age_seconds"] > 0
    assert mesh(node, events=[older, ended])["turn_age_seconds"] == 0


@pytest.mark.parametrize("end", ["end", "error"])
def test_a_turn_ages_also_while_it_calls_no_model(node: str, end: str) -> None:
    """As in a tool that never answers."""

    def lifecycle(phase: str) -> list[object]:
        return ["agent", {"runId": "r", "stream": "lifecycle", "data": {"phase": phase}}]

    called = [["model_call_started", CALL], ["model_call_ended", {**CALL, "outcome": "completed"}]]
    begun = [lifecycle("start"), *called, lifecycle("finishing")]
    assert mesh(node, events=begun)["turn_age_seconds"] > 0
    assert mesh(node, events=[*begun, lifecycle(end)])["turn_age_seconds"] == 0


def test_what_is_not_known_is_left_out(node: str) -> None:
    answer = mesh(node)
    assert answer.keys() == {
        *("ok", "version", "config_sha", "boot_id", "started_at", "usage", "eventLoop", "channels", "peers"),
        *("memory_bytes", "turn_age_seconds", "model"),
    }
    assert answer["memory_bytes"] > 1e6
    assert (answer["version"], answer["config_sha"]) == ("1.2.3", "c0ffee")
