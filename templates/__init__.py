"""Bot types: versioned YAML beside the schema that loads it."""

from templates.overrides import OVERRIDABLE, OverrideError, overridden
from templates.schema import (
    BUNDLED,
    ENVIRONMENTS,
    BotTemplate,
    Environment,
    ProbeTemplate,
    TemplateError,
    Templates,
    load,
)

__all__ = [
    "BUNDLED",
    "ENVIRONMENTS",
    "OVERRIDABLE",
    "BotTemplate",
    "Environment",
    "OverrideError",
    "ProbeTemplate",
    "TemplateError",
    "Templates",
    "load",
    "overridden",
]
