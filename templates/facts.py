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
