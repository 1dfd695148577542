"""What is known of instance types and of models."""

from collections.abc import Mapping
from typing import Final

# GiB of memory; instance sizes the seed's bots use. https://aws.amazon.com/ec2/instance-types/t3/
INSTANCE_MEMORY_GIB: Final[Mapping[str, int]] = {
    "t3.micro": 1,
    "t3.small": 2,
    "t3.medium": 4,
    "t3.large": 8,
    "t3.xlarge": 16,
    "t3.2xlarge": 32,
}

OPENCLAW_IDLE_MB: Final = 806  # measured: OpenClaw 2026.9.6 on Node 24, idle, no channel open
IMAGE_GIB: Final = 8  # of the root volume of Ubuntu's images; EC2 refuses to launch onto a smaller one
ROOMY_GIB: Final = 10  # the system, Node, OpenClaw and AWS's tools leave some 4 GB of this

# Names of models begin with one of these, by provider, as OpenClaw spells it (docs.openclaw.ai/providers).
# A provider that is not here is not known at all; a new family of one that is here needs a line.
MODEL_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic": ("claude-opus-", "claude-sonnet-", "claude-haiku-", "claude-3-"),
    "openai": ("gpt-4", "gpt-5", "o1", "o3", "o4"),
    "google": ("gemini-",),
    "mistral": ("mistral-", "ministral-", "codestral-", "magistral-", "devstral-"),
    "xai": ("grok-",),
    "deepseek": ("deepseek-",),
    "moonshot": ("kimi-",),
    "zai": ("glm-",),
}


def is_known_model(model: str) -> bool:
    """`provider/name`, by its family: a misspelt name is not known."""
    provider, _, name = model.partition("/")
    return name.startswith(MODEL_FAMILIES.get(provider, ()) or ("\0",))
