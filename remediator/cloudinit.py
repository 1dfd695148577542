"""What an instance is told at its first boot: cloud-init user data without any secret. Pure.

The units and scripts are the files of the folder `instance`, as they are; what differs from bot to bot are
three files beside them: who the bot is, OpenClaw's configuration, and where its secrets are found.

The bot's role must be allowed ssm:GetParameter on its own parameters, and nothing else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

USER_DATA_LIMIT: Final = 16 * 1024  # bytes, before Base64 (EC2 user guide)
INSTANCE: Final = Path(__file__).with_name("instance")
TELEGRAM: Final = "/run/credentials/bot.service/telegram-token"  # where LoadCredential= puts it

# OpenClaw asks for Node 24.16 or later. Hashes: nodejs.org/dist/v*/SHASUMS256.txt, `npm view openclaw dist`.
SOFTWARE: Final[Mapping[str, str]] = {
    "NODE_VERSION": "24.18.0",
    "NODE_SHA256": "783130984963db7ba9cbd01089eaf2c2efb055c7c1693c943174b967b3050cb8",
    "OPENCLAW_VERSION": "2026.9.6",
    "OPENCLAW_SHA512": "21ed24c9048255f16a8b1b20560dfdbdebd40ead350a1e6edfeed8bb9637a804"
    "5cce67407be973a7c6d59cef7ddb9ac7896ffe085a7bd337ce442c8f9821f7d6",
    "OPENCLAW_BEFORE": "2026-09-26",  # of its 330 dependencies, none that is newer
}

RESTART: Final = "bot-restart"  # a script, and the user that may run it
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
) -> str:
    """The `#cloud-config` of a bot. ValueError where it would not fit into EC2's 16 KB.

    `parameter`: the Telegram token's name in SSM; its siblings are the bot's too. `restart_key`: the public
    key that may restart the bot by SSH, and do nothing else. `login`: the key pair of EC2 gets its user.
    Without either nothing listens for SSH.
    """
    probe = config["probe"]
    identity = {
        "bot": config["bot"],
        "template": config["template"],
        "environment": config["environment"],
        "port": probe["port"],
        "health_path": probe["health_path"],
        "mesh_path": probe["mesh_path"],
        "config_sha": config_sha,
        "model": config["model"],
    }
    secrets = {"AWS_REGION": region, "PARAMETERS": parameter.rpartition("/")[0] + "/"}
    document = {
        "users": _users(restart_key, login),
        "disable_root": True,
        "ssh_pwauth": False,
        "package_update": True,
        "packages": ["python3-boto3"],  # Ubuntu's own, for bot-secrets
        "swap": {"filename": "/swap.img", "size": 2 * 1024**3},  # OpenClaw takes 806 MB idle
        "write_files": [
            _file("/etc/bot/bot.json", _json(identity)),
            _file("/etc/bot/openclaw.json", _json(openclaw(config))),
            _file("/etc/bot/instance.env", "".join(f"{k}={v}\n" for k, v in {**SOFTWARE, **secrets}.items())),
            *(_shipped(path) for path in sorted(INSTANCE.iterdir()) if restart_key or path.name != RESTART),
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            *([] if restart_key or login else NO_SSH),
            ["snap", "install", "amazon-ssm-agent", "--classic"],  # Ubuntu's images have it
            ["snap", "start", "--enable", "amazon-ssm-agent"],
            ["systemctl", "enable", "--now", "bot.service"],
        ],
    }
    text = "#cloud-config\n" + yaml.dump(document, Dumper=_Readable, sort_keys=False, width=1000)
    if len(text.encode()) > USER_DATA_LIMIT:
        raise ValueError(f"user data has {len(text.encode())} bytes, EC2 takes {USER_DATA_LIMIT}")
    return text


def _users(restart_key: str | None, login: bool) -> list[object]:
    users: list[object] = ["default"] if login else []
    account = {"name": "bot", "system": True, "lock_passwd": True, "shell": "/usr/sbin/nologin"}
    users.append({**account, "homedir": "/var/lib/bot", "no_create_home": True})  # StateDirectory= makes it
    if restart_key is not None:
        users.append(
            {
                "name": RESTART,
                "lock_passwd": True,
                "shell": "/bin/sh",  # sshd runs the forced command with it
                "sudo": f'ALL=(root) NOPASSWD: /usr/local/sbin/{RESTART} ""',
                "ssh_authorized_keys": [authorized(restart_key)],
            }
        )
    return users


def authorized(restart_key: str) -> str:
    """The line of authorized_keys: whatever the client asks for, this is what is run, and nothing else."""
    return f'command="sudo -n /usr/local/sbin/{RESTART}",restrict {restart_key}'


def openclaw(config: Mapping[str, Any]) -> dict[str, Any]:
    """OpenClaw's own configuration file, in the shape `openclaw config validate` accepts."""
    return {
        "gateway": {
            "mode": "local",
            "port": config["probe"]["port"],
            "bind": "lan",  # the exporter and the remediator look from outside
            "controlUi": {"enabled": False},
        },
        "agents": {
            "defaults": {
                "model": config["model"],
                "heartbeat": {"every": config["heartbeat"]},
                "compaction": {"mode": config["compaction"]},
            }
        },
        "channels": {"telegram": {"enabled": True, "tokenFile": TELEGRAM}},
        "discovery": {"mdns": {"mode": "off"}},
        "update": {"checkOnStart": False},
    }


class _Readable(yaml.SafeDumper):
    """A file is a block of lines, as a person would write it."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _lines)


def _shipped(path: Path) -> dict[str, object]:
    if path.suffix == ".service":
        return _file(f"/etc/systemd/system/{path.name}", path.read_text())
    return _file(f"/usr/local/sbin/{path.name}", path.read_text(), permissions="0755")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _file(path: str, content: str, permissions: str = "0644") -> dict[str, object]:
    return {"path": path, "content": content, "permissions": permissions}
