"""The orchestrator's own state: kept safe, and brought back."""

from typing import Final

import click

COMMANDS: Final[tuple[click.Command, ...]] = ()
