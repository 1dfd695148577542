"""The real OpenClaw sees the files of its type: one turn, with a provider of models that reads the prompt."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import templates
from remediator.configuration.rendering import render
from remediator.provisioning.cloudinit import BRIDGE, BRIDGE_FOLDER, FILES, INSTANCE, openclaw
from sandbox.process.gateway import SKIP, unit_environment
from sandbox.process.openclaw import OpenClaw
from templates.files import packed
from templates.schema import FilesTemplate
from tests.remediator.provisioning.test_openclaw import program

__all__ = ["program"]  # the fixture
pytestmark = pytest.mark.timeout(900)

SAID = "a planted persona, fond of marmalade"
LOADED = "the planted plugin is loaded"
PLUGIN = {"id": "echo", "configSchema": {"type": "object", "additionalProperties": False, "properties": {}}}
CONTENTS = {
    "workspace/SOUL.md": f"# Who you are\n\nYou are {SAID}.\n",
    "skills/greet/SKILL.md": "---\nname: greet\ndescription: Says hello as planted.\n---\nSay hello.\n",
    "plugins/echo/openclaw.plugin.json": json.dumps(PLUGIN),
    "plugins/echo/package.json": '{"type": "module", "openclaw": {"extensions": ["./index.js"]}}',
    "plugins/echo/index.js": f"export default {{ id: 'echo', register: () => console.error('{LOADED}') }};",
}
ANSWER: list[dict[str, Any]] = [
    {"delta": {"role": "assistant", "content": "hello"}, "finish_reason": None},
    {"delta": {}, "finish_reason": "stop"},
]


def provider(prompts: list[str]) -> web.Application:
    """Make a provider of models, as OpenAI's: it says hello, and keeps what it was asked."""

    async def complete(request: web.Request) -> web.Response:
        prompts.append(await request.text())
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        events = [json.dumps({**head, "choices": [{"index": 0, **choice}]}) for choice in ANSWER]
        text = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
        return web.Response(text=text, content_type="text/event-stream")

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", complete)
    return app


def instance(home: Path, port: int) -> None:
    """Lay out in `home` what an instance has when its bot starts."""
    files = packed({name: text.encode() for name, text in CONTENTS.items()})
    with tarfile.open(fileobj=io.BytesIO(files.archive)) as tar:
        tar.extractall(home / "files", filter="data")
    (home / "state").mkdir()
    argv = [INSTANCE / "bot-files", home / "files/workspace", home / "state/workspace"]
    subprocess.run([sys.executable, *map(str, argv)], check=True)
    own = FilesTemplate(sha256=files.sha256, names=dict(files.names))
    template = templates.load().get("support", "production").model_copy(update={"files": own})
    text = json.dumps(openclaw(*render("forge", "production", template)))
    here = {FILES: home / "files", "/var/lib/bot": home / "state", BRIDGE_FOLDER: INSTANCE / BRIDGE}
    for folder, elsewhere in here.items():
        text = text.replace(folder, str(elsewhere))
    content: dict[str, Any] = json.loads(text)
    content["agents"]["defaults"]["model"] = "ours/m"
    models = [{"id": "m", "name": "m", "contextWindow": 200_000, "maxTokens": 1000}]
    ours = {"baseUrl": f"http://127.0.0.1:{port}/v1", "apiKey": "planted", "api": "openai-completions"}
    content["models"] = {"providers": {"ours": {**ours, "models": models}}}
    (home / "openclaw.json").write_text(json.dumps(content))


async def test_a_turn_has_the_persona_the_skill_and_the_plugin_of_the_type(
    program: OpenClaw, tmp_path: Path
) -> None:
    """And no first-run ritual is held: who the bot is was told."""
    prompts: list[str] = []
    runner = web.AppRunner(provider(prompts))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        instance(tmp_path, runner.addresses[0][1])
        process = await asyncio.create_subprocess_exec(
            *program.argv("agent", "--local", "--agent", "main", "--message", "hi"),
            env={**unit_environment(tmp_path, program), SKIP: "1", "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = (part.decode() for part in await process.communicate())
    finally:
        await runner.cleanup()
    assert process.returncode == 0, errors
    assert "hello" in output
    assert SAID in prompts[0]
    assert "Says hello as planted." in prompts[0]
    assert LOADED in errors
    workspace = {path.name for path in (tmp_path / "state/workspace").iterdir()}
    assert {"AGENTS.md", "SOUL.md", "USER.md"} <= workspace, "the rest is OpenClaw's own"
    assert "BOOTSTRAP.md" not in workspace
    assert SAID in (tmp_path / "state/workspace/SOUL.md").read_text()
