"""The files of a bot type: packed the same everywhere, and refused by name where they cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import yaml

import templates
from templates.files import MAX_BYTES, MAX_FILES, FilesError, packed, read_files, unpacked
from tests.templates.test_schema import GOOD, write

SOUL = b"# Who you are\n\nA friend.\n"
TAR_SHA256 = "00a48e174d5bfdf03638fc3fa1eec55d33d959ff6be6a343416d7c9ecef2b76e"  # of an archive with it alone
GOOD_FILES = {
    "workspace/SOUL.md": SOUL,
    "workspace/memory/first.md": b"It began.\n",
    "skills/greet/SKILL.md": b"---\nname: greet\ndescription: Says hello.\n---\nSay hello.\n",
    "skills/greet/greet.sh": b"#!/bin/sh\necho hello\n",
    "plugins/echo/openclaw.plugin.json": b'{"id": "echo"}',
    "plugins/echo/index.js": b"export default {};\n",
}


def written(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_the_archive_is_the_same_wherever_and_whenever_it_is_made(tmp_path: Path) -> None:
    """Its hash is its name: neither time, owner, mode, order nor the release of Python may be in it."""
    one = written(tmp_path / "one", GOOD_FILES)
    two = written(tmp_path / "two", dict(reversed(GOOD_FILES.items())))
    os.utime(two / "workspace/SOUL.md", (1, 1))
    (two / "skills/greet/greet.sh").chmod(0o600)
    files, again = read_files(one), read_files(two)
    assert files is not None
    assert again == files
    assert files.archive[:10].hex() == "1f8b08000000000002ff"
    content = gzip.decompress(packed({"workspace/SOUL.md": SOUL}).archive)
    assert hashlib.sha256(content).hexdigest() == TAR_SHA256


def test_what_is_packed_is_told_by_name_and_comes_out_as_it_went_in(tmp_path: Path) -> None:
    files = read_files(written(tmp_path, GOOD_FILES))
    assert files is not None
    assert files.names == {name: hashlib.sha256(content).hexdigest() for name, content in GOOD_FILES.items()}
    assert unpacked(files.archive) == GOOD_FILES
    with tarfile.open(fileobj=io.BytesIO(files.archive)) as tar:
        modes = {info.name: (info.mode, info.uid, info.gid, info.mtime) for info in tar}
    assert modes.pop("skills/greet/greet.sh") == (0o755, 0, 0, 0), "a script can be run"
    assert set(modes.values()) == {(0o644, 0, 0, 0)}


@pytest.mark.parametrize("folder", ["nothing", "empty"])
def test_a_type_may_have_no_files(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty/workspace").mkdir(parents=True)
    assert read_files(tmp_path / folder) is None


PLANTED = "planted0" * 5


@pytest.mark.parametrize(
    ("contents", "name", "problem"),
    [
        ({"README.md": b""}, "README.md", "is in none of workspace/, skills/, plugins/"),
        ({"notes/a.md": b""}, "notes/a.md", "is in none of"),
        ({"workspace": b""}, "workspace", "is in none of"),
        ({"workspace/.env": b""}, "workspace/.env", "not begin with ."),
        ({"workspace/.git/config": b""}, "workspace/.git/config", "not begin with ."),
        ({"workspace/a b.md": b""}, "workspace/a b.md", "may have a-z"),
        ({"workspace/übung.md": b""}, "workspace/übung.md", "may have a-z"),
        ({f"workspace/{'d' * 90}/{'d' * 90}/{'f' * 20}": b""}, "workspace/", "longer than 200"),
        ({"workspace/server.pem": b""}, "workspace/server.pem", "named like a secret"),
        ({"workspace/id_ed25519": b""}, "workspace/id_ed25519", "named like a secret"),
        ({"workspace/my-credentials.json": b""}, "workspace/my-credentials.json", "named like a secret"),
        ({"workspace/SECRETS.md": b""}, "workspace/SECRETS.md", "named like a secret"),
        ({"workspace/a": f"k = 'sk-ant-{PLANTED}'".encode()}, "workspace/a", "looks like a secret"),
        ({"workspace/a": f"12345678:{PLANTED[:35]}".encode()}, "workspace/a", "looks like a secret"),
        (
            {"workspace/a": b"-----BEGIN OPENSSH %s KEY-----" % b"PRIVATE"},
            "workspace/a",
            "looks like a secret",
        ),
        ({"workspace/a": b"AKIA%s" % (b"PLANTED0" * 2)}, "workspace/a", "looks like a secret"),
        ({"skills/README.md": b""}, "skills/README.md", "must be a folder with SKILL.md"),
        ({"skills/greet/skill.md": b""}, "skills/greet", "must be a folder with SKILL.md"),
        ({"plugins/echo/index.js": b""}, "plugins/echo", "must be a folder with openclaw.plugin.json"),
        *(
            (
                {f"plugins/{name}/openclaw.plugin.json": content},
                f"plugins/{name}/openclaw.plugin.json",
                f"its id must be '{name}'",
            )
            for name, content in [
                ("echo", b'{"id": "other"}'),
                ("echo", b"{"),
                ("echo", b"[]"),
                ("bot-bridge", b'{"id": "bot-bridge"}'),
            ]
        ),
        ({f"workspace/{n:03}": b"" for n in range(MAX_FILES + 1)}, "workspace/100", "one file too many"),
        ({"workspace/a": bytes(MAX_BYTES), "workspace/b": b"1"}, "workspace/b", "is too much"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_quoted(
    tmp_path: Path, contents: dict[str, bytes], name: str, problem: str
) -> None:
    with pytest.raises(FilesError) as caught:
        read_files(written(tmp_path, contents))
    assert caught.value.name.startswith(name)
    assert problem in caught.value.problem
    assert "planted" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "contents",
    [
        {"workspace/design-tokens.json": b""},
        {"workspace/keyboard.md": b"a key is pressed: 12:30"},
        {"workspace/passwordless.md": b""},
        {f"workspace/{n:03}": b"" for n in range(MAX_FILES)},
        {"workspace/a": bytes(MAX_BYTES)},
        {"plugins/echo/openclaw.plugin.json": b'{"id": "echo"}'},
    ],
)
def test_what_only_resembles_it_is_taken(tmp_path: Path, contents: dict[str, bytes]) -> None:
    files = read_files(written(tmp_path, contents))
    assert files is not None
    assert unpacked(files.archive) == contents


def test_a_link_that_stays_inside_is_the_file_that_it_names(tmp_path: Path) -> None:
    folder = written(tmp_path, {"workspace/AGENTS.md": b"rules"})
    (folder / "workspace/CLAUDE.md").symlink_to("AGENTS.md")
    files = read_files(folder)
    assert files is not None
    assert unpacked(files.archive)["workspace/CLAUDE.md"] == b"rules"


@pytest.mark.parametrize("target", ["../../outside", "/etc/hostname", "nowhere", "folder", "../.."])
def test_a_link_to_anything_else_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").write_text("not ours")
    folder = written(tmp_path / "type", {"workspace/folder/a": b""})
    (folder / "workspace/link").symlink_to(target)
    with pytest.raises(FilesError, match="workspace/link: is a link to no file of this folder"):
        read_files(folder)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    os.mkfifo(tmp_path / "workspace/pipe")
    with pytest.raises(FilesError, match="workspace/pipe: is neither"):
        read_files(tmp_path)


# beside the YAML


def test_a_type_has_the_files_of_the_folder_beside_it_in_every_environment(tmp_path: Path) -> None:
    write(tmp_path, environments={"staging": {"heartbeat": "1h"}})
    written(tmp_path / "support", GOOD_FILES)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(GOOD | {"name": "plain"}))
    loaded = templates.load(tmp_path)
    assert loaded.get("plain", "production").files is None
    (sha256,) = loaded.archives
    for environment in templates.ENVIRONMENTS:
        files = loaded.get("support", environment).files
        assert files is not None
        assert (files.sha256, set(files.names)) == (sha256, set(GOOD_FILES))
    assert unpacked(loaded.archives[sha256]) == GOOD_FILES


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"files": {"sha256": "0", "names": {}}}, "files"),
        ({"environments": {"staging": {"files": None}}}, "environments.staging.files"),
    ],
)
def test_the_yaml_cannot_say_which_files(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    with pytest.raises(templates.TemplateError, match="files go to the folder support/ beside it") as caught:
        templates.load(write(tmp_path, **changes))
    assert caught.value.field == field


def test_a_wrong_file_is_named_with_its_type(tmp_path: Path) -> None:
    written(write(tmp_path) / "support", {"workspace/.env": b""})
    with pytest.raises(templates.TemplateError, match=r"^support/workspace/\.env: "):
        templates.load(tmp_path)


def test_a_folder_without_its_yaml_is_named(tmp_path: Path) -> None:
    """It is likely misspelt, and its bots would come up without."""
    written(write(tmp_path) / "suport", {"workspace/SOUL.md": SOUL})
    (tmp_path / "other").mkdir()
    with pytest.raises(templates.TemplateError, match=r"suport/: there is no suport\.yaml beside it"):
        templates.load(tmp_path)


@pytest.mark.parametrize("name", templates.load().names)
def test_every_bundled_type_has_a_persona_and_nothing_else(name: str) -> None:
    """OpenClaw's own AGENTS.md stays; with a SOUL.md that is not its own it asks nobody who it is."""
    files = templates.load().get(name, "production").files
    assert files is not None
    assert set(files.names) == {"workspace/SOUL.md"}


def test_no_override_reaches_the_files() -> None:
    with pytest.raises(templates.OverrideError, match=r"overrides\.files: belongs to the template"):
        templates.overridden(templates.load().get("support", "production"), {"files": json.loads("{}")})
