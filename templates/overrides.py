"""The fields in which one bot may differ from its template."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from templates.schema import BotTemplate, merged

FIXED: Final = ("name", "description", "models", "scaling")  # what the type is, and no bot's configuration
OF_THE_TYPE: Final = (*FIXED, "files")
OVERRIDABLE: Final = tuple(name for name in BotTemplate.model_fields if name not in OF_THE_TYPE)


class OverrideError(ValueError):
    """An override cannot be used. Names the field; says no value, as it may be a misplaced secret."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field, self.problem, self.remedy = field, problem, remedy


def overridden(template: BotTemplate, overrides: Mapping[str, Any]) -> BotTemplate:
    """Return the template with these fields changed; raises OverrideError.

    Mappings are merged, all else (lists too) is replaced.
    """
    for name in overrides:
        if name not in OVERRIDABLE:
            problem = "belongs to the template" if name in OF_THE_TYPE else "is no field of a template"
            raise OverrideError(
                f"overrides.{name[:64]}", problem, f"remove it; what may differ is {', '.join(OVERRIDABLE)}"
            )
    if not overrides:
        return template
    try:
        return BotTemplate.model_validate(merged(template.model_dump(), overrides))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["overrides", *map(str, first["loc"])])
        problem = first["msg"].removeprefix("Value error, ")
        remedy = f"correct it, or leave it out to have what {template.name} has"
        raise OverrideError(field, problem, remedy) from None
