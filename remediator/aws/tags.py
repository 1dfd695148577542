"""The tags by which our instances, volumes, snapshots and addresses are told from others, and their names."""

from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "bot-orchestrator"  # of every tag that is ours alone; `Name` is everybody's

MANAGED_TAG: Final = f"{PREFIX}:managed"  # "true": ours; without it nothing is ever touched
BOT_TAG: Final = f"{PREFIX}:bot"
DEPLOYMENT_TAG: Final = f"{PREFIX}:deployment"  # the run that launched, adopted or snapshotted it
CONFIG_SHA_TAG: Final = f"{PREFIX}:config-sha"
ROLE_TAG: Final = f"{PREFIX}:role"  # candidate, active, standby or retired
VOLUME_TAG: Final = f"{PREFIX}:volume"  # of a snapshot: the volume it was taken of

MANAGED_FILTER: Final[Any] = {"Name": f"tag:{MANAGED_TAG}", "Values": ["true"]}


def tags_of(description: Any) -> dict[str, str]:
    """Return the tags of what a Describe call has described."""
    return {tag["Key"]: tag["Value"] for tag in description.get("Tags", [])}


def tag_list(tags: Mapping[str, str]) -> Any:
    """Return the tags as AWS's requests spell them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
