"""The whole configuration of a bot, canonical and hashed. Pure."""

import hashlib
import json
from typing import Any

from templates import BotTemplate


def render(bot: str, environment: str, template: BotTemplate) -> tuple[dict[str, Any], str]:
    """The bot's whole configuration, and the hash of its canonical JSON."""
    config = {"bot": bot, "environment": environment, "template": template.name}
    config |= template.model_dump(mode="json", exclude={"name", "description"})
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return config, hashlib.sha256(canonical.encode()).hexdigest()[:16]
