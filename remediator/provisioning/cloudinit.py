"""The cloud-init user data of an instance, without any secret. Pure.

The units, the scripts and the plugin are the files of the folder `instance`, without their comments; what
differs from bot to bot are three files beside them: who the bot is, OpenClaw's configuration, and where
its secrets are found.

The bot's role must be allowed ssm:GetParameter on its own parameters, and nothing else.
"""

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from remediator.configuration.access import telegram
from remediator.settings import SSH_USER
from templates.facts import current_model
from templates.instance_types import INSTANCE_TYPES

USER_DATA_LIMIT: Final = 16 * 1024  # bytes, before Base64 (EC2 user guide)
INSTANCE: Final = Path(__file__).with_name("instance")
TOLD: Final = ("model", "fallbacks", "heartbeat", "probe", "allow_from", "group_allow_from", "groups")
BRIDGE: Final = "bot-bridge"  # the plugin that answers /mesh
BRIDGE_FOLDER: Final = f"/usr/local/lib/{BRIDGE}"
FILES: Final = "/opt/bot-files"  # where bot-files puts those of the bot's type
WORKSPACE: Final = "/var/lib/bot/workspace"
ROOM_GIB: Final = 3.0  # of memory and swap: a turn's peak (templates/facts.py), twice but for a little
TELEGRAM: Final = "/run/credentials/bot.service/telegram-token"  # where LoadCredential= puts it

# OpenClaw asks for Node 24.16 or later. Hashes: nodejs.org/dist/v*/SHASUMS256.txt, `npm view openclaw dist`.
SOFTWARE: Final[Mapping[str, str]] = {
    "NODE_VERSION": "24.18.0",
    "NODE_SHA256": "783130984963db7ba9cbd01089eaf2c2efb055c7c1693c943174b967b3050cb8",  # linux-x64
    "OPENCLAW_VERSION": "2026.9.6",
    "OPENCLAW_SHA512": "21ed24c9048255f16a8b1b20560dfdbdebd40ead350a1e6edfeed8bb9637a804"
    "5cce67407be973a7c6d59cef7ddb9ac7896ffe085a7bd337ce442c8f9821f7d6",
    "OPENCLAW_BEFORE": "2026-09-26",  # of its 330 dependencies, none that is newer
}

# The comments would take 1.5 KiB: those of JavaScript, docstrings, and whole lines of scripts and units.
_COMMENT: Final = re.compile(r'^ *#(?!!).*\n|^ *"""(?s:.*?)"""\n+', re.MULTILINE)
_COMMENT_OF_JAVASCRIPT: Final = re.compile(r"^ *// .*\n| +// .*$", re.MULTILINE)
ARM64: Final[Mapping[str, str]] = {  # that differs there
    "NODE_SHA256": "6b4484c2190274175df9aa8f28e2d758a819cb1c1fe6ab481e2f95b463ab8508",  # linux-arm64
}

RESTART: Final = SSH_USER  # the script is named for the user that may run it
NO_SSH: Final = [
    ["systemctl", "disable", "--now", "ssh.socket", "ssh.service"],
    ["systemctl", "mask", "ssh.socket", "ssh.service"],
]


def user_data(
    config: Mapping[str, Any],
    config_sha: str,
    *,
    region: str,
    parameter: str,
    restart_key: str | None = None,
    login: bool = False,
    files: str = "",
) -> bytes:
    """Return the cloud-config of a bot, gzipped: cloud-init unpacks it. ValueError where it is too large.

    The same bytes for the same arguments: no time is in them.

    `parameter`: the Telegram token's name in SSM; its siblings are the bot's too. `restart_key`: the public
    key that may restart the bot by SSH, and do nothing else. `login`: the key pair of EC2 gets its user.
    Without either nothing listens for SSH. `files`: where the configuration's files are kept, as
    `files_address` has it.
    """
    variables = {**software(str(config["instance_type"])), "AWS_REGION": region, "FILES": files}
    variables["PARAMETERS"] = parameter.rpartition("/")[0] + "/"
    document = {
        "users": _users(restart_key, login),
        "disable_root": True,
        "ssh_pwauth": False,
        "package_update": True,
        "packages": ["python3-boto3"],  # Ubuntu's own, for bot-secrets and bot-files
        "swap": {"filename": "/swap.img", "size": _swap_bytes(str(config["instance_type"]))},
        "write_files": [
            _file("/etc/bot/bot.json", _json(_identity(config, config_sha))),
            _file("/etc/bot/openclaw.json", _json(openclaw(config, config_sha))),
            _file("/etc/bot/instance.env", "".join(f"{name}={value}\n" for name, value in variables.items())),
            *(_shipped(path) for path in _instance_files() if restart_key or path.name != RESTART),
        ],
        "runcmd": _commands(ssh=bool(restart_key) or login),
    }
    text = "#cloud-config\n" + yaml.dump(document, Dumper=_Readable, sort_keys=False, width=1000)
    packed = gzip.compress(text.encode(), mtime=0)
    if len(packed) > USER_DATA_LIMIT:
        raise ValueError(
            f"its user data have {len(packed)} bytes gzipped, more than the {USER_DATA_LIMIT} that EC2 takes"
        )
    return packed


def largest_field(config: Mapping[str, Any]) -> str:
    """Return the field of a configuration that takes most of its user data."""
    fields = {name: config[name] for name in TOLD if name in config} | {"files": _folders(config, "plugins")}
    return max(fields, key=lambda name: len(gzip.compress(_json({name: fields[name]}).encode())))


def software(instance_type: str) -> dict[str, str]:
    """Return the versions and hashes of what is installed on a type: x86_64's where it is not known."""
    kind = INSTANCE_TYPES.get(instance_type)
    return {**SOFTWARE, **(ARM64 if kind is not None and kind.architecture == "arm64" else {})}


def _swap_bytes(instance_type: str) -> int:
    """Return the size of the swap file: with the memory it holds a turn at its peak, and the system."""
    kind = INSTANCE_TYPES.get(instance_type)
    return int(max(1.0, ROOM_GIB - (kind.memory_gib if kind is not None else 1.0)) * 1024**3)


def _identity(config: Mapping[str, Any], config_sha: str) -> dict[str, Any]:
    """Return who the bot is, for its own answers."""
    return {
        "bot": config["bot"],
        "template": config["template"],
        "environment": config["environment"],
        "port": config["probe"]["port"],
        "health_path": config["probe"]["health_path"],
        "mesh_path": config["probe"]["mesh_path"],
        "config_sha": config_sha,
        "model": current_model(config["model"]),
    }


def _commands(*, ssh: bool) -> list[list[str]]:
    """Return what is run once the files are there; without `ssh` nothing listens for it."""
    return [
        ["systemctl", "daemon-reload"],
        *([] if ssh else NO_SSH),
        ["snap", "install", "amazon-ssm-agent", "--classic"],  # Ubuntu's images have it
        ["snap", "start", "--enable", "amazon-ssm-agent"],
        ["systemctl", "enable", "--now", "bot.service"],
    ]


def _users(restart_key: str | None, login: bool) -> list[object]:
    users: list[object] = ["default"] if login else []
    account = {"name": "bot", "system": True, "lock_passwd": True, "shell": "/usr/sbin/nologin"}
    users.append({**account, "homedir": "/var/lib/bot", "no_create_home": True})  # StateDirectory= makes it
    if restart_key is not None:
        users.append(
            {
                "name": SSH_USER,
                "lock_passwd": True,
                "shell": "/bin/sh",  # sshd runs the forced command with it
                "sudo": f'ALL=(root) NOPASSWD: /usr/local/sbin/{RESTART} ""',
                "ssh_authorized_keys": [authorized(restart_key)],
            }
        )
    return users


def authorized(restart_key: str) -> str:
    """Return the line of authorized_keys: whatever the client asks for, the script alone is run."""
    return f'command="sudo -n /usr/local/sbin/{RESTART}",restrict {restart_key}'


def openclaw(config: Mapping[str, Any], config_sha: str) -> dict[str, Any]:
    """Return OpenClaw's own configuration file, in the shape `openclaw config validate` accepts."""
    skills, plugins = _folders(config, "skills"), _folders(config, "plugins")
    return {
        "gateway": {
            "mode": "local",
            "port": config["probe"]["port"],
            "bind": "lan",  # the exporter and the remediator look from outside
            "controlUi": {"enabled": False},
        },
        "agents": {
            "defaults": {
                "model": _model(config),
                "heartbeat": {"every": config["heartbeat"]},
                "compaction": {"mode": config["compaction"]},
                "workspace": WORKSPACE,
            }
        },
        "channels": {"telegram": {"enabled": True, "tokenFile": TELEGRAM, **telegram(config)}},
        "plugins": {
            "load": {"paths": [BRIDGE_FOLDER, *(f"{FILES}/plugins/{name}" for name in plugins)]},
            "entries": {
                **{name: {"enabled": True} for name in plugins},
                BRIDGE: {
                    "enabled": True,
                    "hooks": {"allowConversationAccess": True},  # of the hook that tells the tokens
                    "config": {"config_sha": config_sha},
                },
            },
        },
        **({"skills": {"load": {"extraDirs": [f"{FILES}/skills"]}}} if skills else {}),
        "discovery": {"mdns": {"mode": "off"}},
        "update": {"checkOnStart": False},
    }


def _model(config: Mapping[str, Any]) -> str | dict[str, Any]:
    """Return the model, with those to be asked in turn where it fails; each as it is called today."""
    primary, *others = dict.fromkeys(map(current_model, [config["model"], *config.get("fallbacks", ())]))
    return {"primary": primary, "fallbacks": others} if others else primary


def _folders(config: Mapping[str, Any], kind: str) -> list[str]:
    """Return the names of the skills, or of the plugins, of the bot's type."""
    paths = [name.split("/") for name in (config.get("files") or {"names": ()})["names"]]
    return sorted({path[1] for path in paths if path[0] == kind})


class _Readable(yaml.SafeDumper):
    """A dumper that writes a file as a block of lines, as a person would."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _lines)


def _instance_files() -> list[Path]:
    return sorted(path for path in INSTANCE.rglob("*") if path.is_file())


def _shipped(path: Path) -> dict[str, object]:
    comment = _COMMENT_OF_JAVASCRIPT if path.suffix == ".js" else _COMMENT
    content = comment.sub("", path.read_text())
    if path.parent.name == BRIDGE:
        return _file(f"{BRIDGE_FOLDER}/{path.name}", content)
    if path.suffix == ".service":
        return _file(f"/etc/systemd/system/{path.name}", content)
    return _file(f"/usr/local/sbin/{path.name}", content, permissions="0755")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _file(path: str, content: str, permissions: str = "0644") -> dict[str, object]:
    return {"path": path, "content": content, "permissions": permissions}
