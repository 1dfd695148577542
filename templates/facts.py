"""Facts about OpenClaw, the image it runs on, and models."""

from collections.abc import Mapping
from typing import Final

OPENCLAW_IDLE_MB: Final = 806  # measured: OpenClaw 2026.9.6 on Node 24, idle, no channel open
OPENCLAW_TURN_MB: Final = 1700  # measured: the same with its helpers, at the peak of a turn
IMAGE_GIB: Final = 8  # of the root volume of Ubuntu's images; EC2 refuses to launch onto a smaller one
ROOMY_GIB: Final = 10  # the system, Node, OpenClaw and AWS's tools leave some 4 GB of this

# Names that templates and people have used and that no provider has any more (OpenClaw's catalogue), and the
# model of the same class that is there today.
RETIRED_MODELS: Final[Mapping[str, str]] = {
    "anthropic/claude-opus-latest": "anthropic/claude-opus-5",
    "anthropic/claude-sonnet-4-20250514": "anthropic/claude-sonnet-5",
    "anthropic/claude-3-5-haiku-latest": "anthropic/claude-haiku-4-5",
}


def current_model(model: str) -> str:
    """Give the model that a name stands for today: its own, unless it is retired."""
    return RETIRED_MODELS.get(model, model)
