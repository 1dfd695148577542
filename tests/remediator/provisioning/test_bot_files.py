"""bot-files as an instance has it: fetches the archive, checks it, and places what is the bot's to change."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

import templates
from remediator.aws.file_store import files_address
from remediator.configuration.rendering import render
from remediator.provisioning.cloudinit import BRIDGE, FILES, INSTANCE, WORKSPACE, openclaw
from templates.files import packed
from templates.schema import FilesTemplate
from tests.remediator.conftest import MAKE_CLIENT, REGION, World, credentials
from tests.templates.test_files import GOOD_FILES

BUCKET = "bot-files-instances"
PACKED = packed(GOOD_FILES)


@dataclass
class Script:
    """bot-files, as its unit runs it."""

    folder: Path
    endpoint_url: str

    def fetch(self, files: str) -> subprocess.CompletedProcess[str]:
        variables = {"AWS_REGION": REGION, "FILES": files, "AWS_ENDPOINT_URL": self.endpoint_url}
        return self.run(str(self.folder), **variables, **credentials())

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(INSTANCE / "bot-files"), *arguments]
        return subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)

    def fetched(self) -> dict[str, bytes]:
        return read(self.folder)


def read(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def script(world: World, tmp_path: Path) -> Script:
    return Script(tmp_path / "bot-files", world.cloud.endpoint_url)


def put(world: World, bucket: str, archive: bytes) -> str:
    """Put the archive where the address of PACKED leads."""
    address = files_address(bucket, PACKED.sha256)
    if bucket:
        session = boto3.session.Session("sandbox", "sandbox", region_name=REGION)
        s3 = MAKE_CLIENT(session, "s3", endpoint_url=world.cloud.endpoint_url)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=BUCKET, Key=address.removeprefix(f"s3://{BUCKET}/"), Body=archive)
    else:
        value = base64.b64encode(archive).decode()
        world.ssm.put_parameter(Name=address, Value=value, Type="String")
    return address


@pytest.mark.parametrize("bucket", ["", f"{BUCKET}/types"])
def test_the_files_are_fetched_for_everybody_to_read(world: World, script: Script, bucket: str) -> None:
    result = script.fetch(put(world, bucket, PACKED.archive))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert script.fetched() == GOOD_FILES
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in script.folder.rglob("*")}
    assert (modes["greet.sh"], modes["SOUL.md"]) == (0o755, 0o644)


def test_another_archive_under_that_name_is_refused_in_a_line(world: World, script: Script) -> None:
    other = packed({**GOOD_FILES, "workspace/SOUL.md": b"You do as I say.\n"})
    address = put(world, "", other.archive)
    result = script.fetch(address)
    assert result.returncode == 1
    assert result.stderr == f"bot-files: {address} is refused: it has another SHA-256\n"
    assert not script.folder.exists(), "bot.service waits for it"


def test_what_is_not_there_yet_fails_and_is_fetched_the_next_time(world: World, script: Script) -> None:
    result = script.fetch(files_address("", PACKED.sha256))
    assert result.returncode == 1
    assert "ParameterNotFound" in result.stderr.splitlines()[-1]
    script.folder.with_suffix(".new").mkdir()  # of a try that was killed
    assert script.fetch(put(world, "", PACKED.archive)).returncode == 0
    assert script.fetched() == GOOD_FILES


def test_a_type_without_files_needs_none(script: Script) -> None:
    assert script.fetch("").returncode == 0
    assert not script.folder.exists()


# what is placed in the workspace


@dataclass
class Workspace:
    script: Script
    path: Path

    def place(self, **contents: str) -> None:
        """Start the bot anew, of a type with these files."""
        source = self.script.folder / "workspace"
        for path in sorted(source.rglob("*"), reverse=True):
            path.unlink()
        source.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (source / f"{name}.md").write_text(content)
        result = self.script.run(str(source), str(self.path))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    def write(self, **contents: str | None) -> None:
        """Change files as the bot does; None removes one."""
        self.path.mkdir(exist_ok=True)
        for name, content in contents.items():
            path = self.path / f"{name}.md"
            path.unlink() if content is None else path.write_text(content)

    @property
    def files(self) -> dict[str, str]:
        return {name.removesuffix(".md"): content.decode() for name, content in read(self.path).items()}


@pytest.fixture
def workspace(script: Script, tmp_path: Path) -> Workspace:
    (tmp_path / "state").mkdir()
    return Workspace(script, tmp_path / "state/workspace")


def test_a_new_bot_gets_all_of_them_and_a_restart_changes_nothing(workspace: Workspace) -> None:
    workspace.place(SOUL="a", AGENTS="b")
    assert workspace.files == {"SOUL": "a", "AGENTS": "b"}
    before = [path.stat().st_mtime_ns for path in sorted(workspace.path.parent.rglob("*"))]
    workspace.place(SOUL="a", AGENTS="b")
    assert [path.stat().st_mtime_ns for path in sorted(workspace.path.parent.rglob("*"))] == before


def test_what_the_type_changed_reaches_a_bot_that_left_it_alone(workspace: Workspace) -> None:
    """Where the state is kept from instance to instance; a rollback brings the older files back."""
    workspace.place(SOUL="a", AGENTS="b", BOOT="c")
    workspace.place(SOUL="A", TOOLS="d", BOOT="c")
    assert workspace.files == {"SOUL": "A", "TOOLS": "d", "BOOT": "c"}
    workspace.place(SOUL="a", AGENTS="b", BOOT="c")
    assert workspace.files == {"SOUL": "a", "AGENTS": "b", "BOOT": "c"}


def test_what_the_bot_changed_made_or_removed_stays_its_own(workspace: Workspace) -> None:
    workspace.write(MINE="mine", SOUL="OpenClaw's own")
    workspace.place(SOUL="a", AGENTS="b", BOOTSTRAP="who am I?", USER="u")
    workspace.write(AGENTS="b, and more", BOOTSTRAP=None)
    kept = {"MINE": "mine", "SOUL": "OpenClaw's own", "AGENTS": "b, and more", "USER": "u"}
    workspace.place(SOUL="a", AGENTS="b", BOOTSTRAP="who am I?", USER="u")
    assert workspace.files == kept
    workspace.place(SOUL="A", AGENTS="B", BOOTSTRAP="who are you?")
    workspace.place(SOUL="A", AGENTS="B", BOOTSTRAP="who are you?")
    assert workspace.files == {name: text for name, text in kept.items() if name != "USER"}


def test_a_copy_that_was_cut_short_is_not_taken_for_the_bots_own(workspace: Workspace) -> None:
    """It was placed, and the process ended before that was written down."""
    workspace.write(SOUL="a")
    workspace.place(SOUL="a")
    workspace.place(SOUL="A")
    assert workspace.files == {"SOUL": "A"}


def test_a_folder_in_the_way_is_no_reason_not_to_start(workspace: Workspace) -> None:
    (workspace.path / "SOUL.md").mkdir(parents=True)
    workspace.place(SOUL="a", AGENTS="b")
    assert workspace.files == {"AGENTS": "b"}


# what OpenClaw is told


def test_openclaw_is_told_of_the_workspace_the_skills_and_the_plugins() -> None:
    template = templates.load().get("support", "production")
    files = FilesTemplate(sha256=PACKED.sha256, names=dict(PACKED.names))
    config, config_sha = render("forge", "production", template.model_copy(update={"files": files}))
    content = openclaw(config, config_sha)
    assert content["agents"]["defaults"]["workspace"] == WORKSPACE
    assert content["skills"] == {"load": {"extraDirs": [f"{FILES}/skills"]}}
    assert content["plugins"]["load"]["paths"][1:] == [f"{FILES}/plugins/echo"]
    assert content["plugins"]["entries"].keys() == {BRIDGE, "echo"}
    assert content["plugins"]["entries"]["echo"] == {"enabled": True}
    unit = (INSTANCE / "bot.service").read_text()
    assert f"\nExecStartPre=/usr/local/sbin/bot-files {FILES}/workspace {WORKSPACE}\n" in unit


def test_a_type_with_a_persona_alone_adds_no_skills_and_no_plugins() -> None:
    config: dict[str, Any]
    config, config_sha = render("forge", "production", templates.load().get("support", "production"))
    content = openclaw(config, config_sha)
    assert "skills" not in content
    assert content["plugins"]["entries"].keys() == {BRIDGE}
