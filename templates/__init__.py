"""Bot types: versioned YAML beside the schema that loads it."""

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
    "BotTemplate",
    "Environment",
    "ProbeTemplate",
    "TemplateError",
    "Templates",
    "load",
]
