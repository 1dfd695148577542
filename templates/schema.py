"""What a bot type is: the strict schema of the YAML files in this folder, and their loader."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

BUNDLED: Final = Path(__file__).parent

Environment = Literal["production", "staging", "development"]

# GiB of memory; instance sizes the seed's bots use. https://aws.amazon.com/ec2/instance-types/t3/
INSTANCE_MEMORY_GIB: Final[Mapping[str, int]] = {
    "t3.micro": 1,
    "t3.small": 2,
    "t3.medium": 4,
    "t3.large": 8,
    "t3.xlarge": 16,
    "t3.2xlarge": 32,
}


class TemplateError(ValueError):
    """A template cannot be used. Says the file, the field, what is wrong, and so what to change."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field}: {problem}" if field else f"{file}: {problem}")
        self.file, self.field, self.problem = file, field, problem


def _absolute(path: str) -> str:
    if not re.fullmatch(r"/[^\s?#]*", path):
        raise ValueError(f"must be an absolute path such as /health, not {path!r}")
    return path


def _matching(pattern: str, example: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must look like {example}, not {value!r}")
        return value

    return AfterValidator(check)


UrlPath = Annotated[str, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, _matching(r"[1-9]\d*(s|m|h)", "30m")]
Gigabytes = Annotated[str, _matching(r"[1-9]\d*GB", "4GB")]
Model = Annotated[str, _matching(r"[a-z0-9-]+/[A-Za-z0-9._-]+", "anthropic/claude-sonnet-4-20250514")]
TypeName = Annotated[str, _matching(r"[a-z0-9][a-z0-9-]{0,62}", "tool-builder")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProbeTemplate(_Strict):
    """Where a bot of this type answers."""

    port: Port = 18790
    health_path: UrlPath = "/health"
    mesh_path: UrlPath = "/mesh"


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
    capabilities: Annotated[list[str], Field(min_length=1)]
    probe: ProbeTemplate = ProbeTemplate()

    @property
    def storage_gib(self) -> int:
        return int(self.storage.removesuffix("GB"))

    @model_validator(mode="after")
    def _instance_fits(self) -> "BotTemplate":
        real = INSTANCE_MEMORY_GIB.get(self.instance_type)
        if real is None:
            known = ", ".join(INSTANCE_MEMORY_GIB)
            raise ValueError(f"instance_type {self.instance_type!r} is not known; use one of {known}")
        if int(self.memory.removesuffix("GB")) > real:
            raise ValueError(f"memory {self.memory} is more than a {self.instance_type} has ({real}GB)")
        return self


class TemplateFile(BaseModel):
    """A file: the type, and what differs in an environment."""

    base: Mapping[str, Any]
    overlays: Mapping[str, Mapping[str, Any]]

    def resolve(self, environment: str) -> BotTemplate:
        return BotTemplate.model_validate(_merged(self.base, self.overlays.get(environment, {})))


def _merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay` over `base`: mappings are merged, everything else (lists too) is replaced."""
    out = dict(base)
    for key, value in overlay.items():
        below = out.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        out[key] = _merged(below, value) if both else value  # type: ignore[arg-type]  # narrowed by `both`
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
