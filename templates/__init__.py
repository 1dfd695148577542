"""Bot types: versioned YAML beside the schema that loads it."""

from templates.overrides import FIXED, OVERRIDABLE, OverrideError, overridden
from templates.schema import (
    BUNDLED,
    ENVIRONMENTS,
    BotTemplate,
    Environment,
    ProbeTemplate,
    ScalingTemplate,
    TemplateError,
    Templates,
    load,
)

__all__ = [
    "BUNDLED",
    "ENVIRONMENTS",
    "FIXED",
    "OVERRIDABLE",
    "BotTemplate",
    "Environment",
    "OverrideError",
    "ProbeTemplate",
    "ScalingTemplate",
    "TemplateError",
    "Templates",
    "load",
    "overridden",
]
