"""What an instance is told at its first boot: cloud-init user data without any secret. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

USER_DATA_LIMIT: Final = 16 * 1024  # bytes, before Base64 (EC2 user guide)
OPENCLAW_VERSION: Final = "2026.9.6"
NODE_CHANNEL: Final = "24/stable"  # OpenClaw asks for Node 24.16 or later

# The token is fetched by root, by the instance's role, and handed over by LoadCredential: a file that root
# writes with umask 077 would be unreadable to User=bot.
_FETCH_SECRETS = """\
#!/bin/sh
set -eu
umask 077
mkdir -p /run/bot-secrets
aws ssm get-parameter --region '{region}' --name '{parameter}' --with-decryption \\
  --query Parameter.Value --output text > /run/bot-secrets/telegram-token
printf 'OPENCLAW_GATEWAY_TOKEN=%s\\n' "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n')" \\
  > /run/bot-secrets/gateway.env
"""

_SECRETS_UNIT = """\
[Unit]
Description=Fetch the bot's secrets
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/bot-secrets
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""

# OpenClaw drains for up to 330 s on SIGTERM; a restart has to be over long before the tier's timeout.
_BOT_UNIT = """\
[Unit]
Description=Bot {bot}
Requires=bot-secrets.service
After=bot-secrets.service network-online.target
Wants=network-online.target

[Service]
User=bot
WorkingDirectory=/home/bot
EnvironmentFile=/run/bot-secrets/gateway.env
LoadCredential=telegram-token:/run/bot-secrets/telegram-token
ExecStart=/usr/bin/env openclaw gateway
Restart=on-failure
RestartSec=5
TimeoutStopSec=60
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""


def user_data(config: Mapping[str, Any], config_sha: str, *, region: str, parameter: str) -> str:
    """The `#cloud-config` of a bot. ValueError where it would not fit into EC2's 16 KB."""
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
    document = {
        "users": [{"name": "bot", "shell": "/usr/sbin/nologin", "lock_passwd": True}],
        "write_files": [
            _file("/etc/bot/bot.json", _json(identity)),
            _file("/home/bot/.openclaw/openclaw.json", _json(openclaw(config)), owner="bot:bot", defer=True),
            _file(
                "/usr/local/sbin/bot-secrets",
                _FETCH_SECRETS.format(region=region, parameter=parameter),
                permissions="0700",
            ),
            _file("/etc/systemd/system/bot-secrets.service", _SECRETS_UNIT),
            _file("/etc/systemd/system/bot.service", _BOT_UNIT.format(bot=config["bot"])),
        ],
        "runcmd": [
            ["chown", "-R", "bot:bot", "/home/bot"],
            ["snap", "install", "aws-cli", "--classic"],
            ["snap", "install", "node", "--classic", f"--channel={NODE_CHANNEL}"],
            ["npm", "install", "--global", f"openclaw@{OPENCLAW_VERSION}"],
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", "bot-secrets.service", "bot.service"],
        ],
    }
    text = "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1000)
    if len(text.encode()) > USER_DATA_LIMIT:
        raise ValueError(f"user data has {len(text.encode())} bytes, EC2 takes {USER_DATA_LIMIT}")
    return text


def openclaw(config: Mapping[str, Any]) -> dict[str, Any]:
    """OpenClaw's own configuration file, in the shape `openclaw config validate` accepts."""
    return {
        "gateway": {"mode": "local", "port": config["probe"]["port"], "bind": "lan"},
        "agents": {
            "defaults": {
                "model": config["model"],
                "heartbeat": {"every": config["heartbeat"]},
                "compaction": {"mode": config["compaction"]},
            }
        },
        "channels": {
            "telegram": {"enabled": True, "tokenFile": "/run/credentials/bot.service/telegram-token"}
        },
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _file(path: str, content: str, **rest: object) -> dict[str, object]:
    return {"path": path, "content": content, "permissions": "0644", **rest}
