"""What a bot type is: the strict schema of the YAML files in this folder, and their loader."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from templates.facts import INSTANCE_MEMORY_GIB

BUNDLED: Final = Path(__file__).parent

Environment = Literal["production", "staging", "development"]


class TemplateError(ValueError):
    """A template cannot be used. Says the file, the field, what is wrong, and so what to change."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field}: {problem}" if field else f"{file}: {problem}")
        self.file, self.field, self.problem = file, field, problem


def _absolute(path: str) -> str:
    if not re.fullmatch(r"/[^\s?#]*", path):
        raise ValueError("must be an absolute path such as /health")
    return path


def _matching(pattern: str, example: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must look like {example}")
        return value

    return AfterValidator(check)


UrlPath = Annotated[str, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, _matching(r"[1-9]\d*(s|m|h)", "30m")]
Gigabytes = Annotated[str, _matching(r"[1-9]\d*GB", "4GB")]
Model = Annotated[
    str, _matching(r"[a-z0-9-]{1,63}/[A-Za-z0-9._-]{1,100}", "anthropic/claude-sonnet-4-20250514")
]
Capability = Annotated[str, _matching(r"[a-z0-9][a-z0-9-]{0,62}", "customer-support")]
TypeName = Annotated[str, _matching(r"[a-z0-9][a-z0-9-]{0,62}", "tool-builder")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProbeTemplate(_Strict):
    """Where a bot of this type answers."""

    port: Port = 18790
    health_path: UrlPath = "/health"
    mesh_path: UrlPath = "/mesh"


class ScalingTemplate(_Strict):
    """How many bots of this type there may be in an environment. Without it their number is people's."""

    min: Annotated[int, Field(ge=1, le=100)]
    max: Annotated[int, Field(ge=1, le=100)]
    target: Annotated[float, Field(gt=0, lt=1)]  # of the capacity that should be left, and of bots healthy

    @field_validator("max")
    @classmethod
    def _not_below_min(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min", value):
            raise ValueError(f"is less than min ({info.data['min']})")
        return value


class BotTemplate(_Strict):
    """One bot type. Durations as `30m`, sizes as `4GB`, as the files write them."""

    name: TypeName
    description: str = ""
    instance_type: str
    model: Model
    heartbeat: Duration
    memory: Gigabytes
    storage: Gigabytes
    compaction: Literal["safeguard", "default"] = "safeguard"
    cooldown: Duration
    capabilities: Annotated[list[Capability], Field(min_length=1, max_length=32)]
    probe: ProbeTemplate = ProbeTemplate()
    models: list[Model] = []  # that its bots may be advised to use; no bot is configured with it
    scaling: ScalingTemplate | None = None  # the same

    @property
    def storage_gib(self) -> int:
        return int(self.storage.removesuffix("GB"))

    @field_validator("instance_type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in INSTANCE_MEMORY_GIB:
            raise ValueError(f"is not known; use one of {', '.join(INSTANCE_MEMORY_GIB)}")
        return value

    @field_validator("memory")
    @classmethod
    def _fits(cls, value: str, info: ValidationInfo) -> str:
        kind = info.data.get("instance_type")
        real = INSTANCE_MEMORY_GIB.get(str(kind))
        if real is not None and int(value.removesuffix("GB")) > real:
            raise ValueError(f"is more than a {kind} has ({real}GB)")
        return value


class TemplateFile(BaseModel):
    """A file: the type, and what differs in an environment."""

    base: Mapping[str, Any]
    overlays: Mapping[str, Mapping[str, Any]]

    def resolve(self, environment: str) -> BotTemplate:
        return BotTemplate.model_validate(merged(self.base, self.overlays.get(environment, {})))


def merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay` over `base`: mappings are merged, everything else (lists too) is replaced."""
    out = dict(base)
    for key, value in overlay.items():
        below = out.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        out[key] = merged(below, value) if both else value  # type: ignore[arg-type]  # narrowed by `both`
    return out


ENVIRONMENTS: Final[tuple[Environment, ...]] = ("production", "staging", "development")


class Templates:
    """Every bot type in a folder, checked in every environment at load."""

    def __init__(self, files: Mapping[str, TemplateFile]) -> None:
        self._files = files

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def get(self, name: str, environment: str) -> BotTemplate:
        """The template as it is in that environment; KeyError where there is no such type."""
        return self._files[name].resolve(environment)


def load(folder: Path = BUNDLED) -> Templates:
    """Read every `*.yaml` of the folder. Raises TemplateError naming the file and the field."""
    files: dict[str, TemplateFile] = {}
    for path in sorted(folder.glob("*.yaml")):
        file = _read(path)
        for environment in ENVIRONMENTS:
            try:
                template = file.resolve(environment)
            except ValidationError as error:
                raise _named(path, error, environment if environment in file.overlays else "") from None
            if template.name != path.stem:
                raise TemplateError(path.name, "name", f"is {template.name!r}; rename it or the file")
        files[path.stem] = file
    if not files:
        raise TemplateError(str(folder), "", "holds no *.yaml template")
    return Templates(files)


def _read(path: Path) -> TemplateFile:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TemplateError(path.name, "", f"is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise TemplateError(path.name, "", "must be a mapping of fields")
    overlays = data.pop("environments", None) or {}
    if not isinstance(overlays, dict) or not all(isinstance(value, dict) for value in overlays.values()):
        raise TemplateError(path.name, "environments", "must map an environment to the fields that differ")
    for unknown in sorted(map(str, set(overlays) - set(ENVIRONMENTS))):
        raise TemplateError(path.name, f"environments.{unknown}", f"is none of {', '.join(ENVIRONMENTS)}")
    for environment, overlay in overlays.items():
        if "name" in overlay:
            raise TemplateError(path.name, f"environments.{environment}.name", "cannot differ; remove it")
    return TemplateFile(base=data, overlays=overlays)


def _named(path: Path, error: ValidationError, environment: str) -> TemplateError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    where = f" (in environment {environment})" if environment else ""
    problem = first["msg"].removeprefix("Value error, ")
    return TemplateError(path.name, field, problem + where)
