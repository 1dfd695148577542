"""Bot types: versioned YAML beside the schema that loads it."""

from templates.files import Files, FilesError, unpacked
from templates.overrides import FIXED, OVERRIDABLE, OverrideError, overridden
from templates.schema import (
    BUNDLED,
    ENVIRONMENTS,
    BotTemplate,
    DmPolicy,
    Environment,
    Fallbacks,
    GroupPolicy,
    Groups,
    People,
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
    "DmPolicy",
    "Environment",
    "Fallbacks",
    "Files",
    "FilesError",
    "GroupPolicy",
    "Groups",
    "OverrideError",
    "People",
    "ProbeTemplate",
    "ScalingTemplate",
    "TemplateError",
    "Templates",
    "load",
    "overridden",
    "unpacked",
]
