"""Bot types: the strict schema of the YAML files in this folder, and their loader."""

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
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from templates.files import MANIFESTS, Files, FilesError, read_files
from templates.instance_types import INSTANCE_TYPES, unknown_type

BUNDLED: Final = Path(__file__).parent

Environment = Literal["production", "staging", "development"]


class TemplateError(ValueError):
    """A template cannot be used. Says the file, the field, what is wrong, and so what to change."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field}: {problem}" if field else f"{file}: {problem}")
        self.file, self.field, self.problem = file, field, problem


LONGEST_PATH: Final = 255  # characters; the exporter takes a few more
LARGEST_GB: Final = 65536  # of a gp3 volume: docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
LONGEST_DAYS: Final = 366
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def _absolute(path: str) -> str:
    if len(path) > LONGEST_PATH or not re.fullmatch(r"/[!-~]*", path) or "?" in path or "#" in path:
        raise ValueError(
            f"must be an absolute path such as /health, of at most {LONGEST_PATH} characters of ASCII"
        )
    return path


def _matching(pattern: str, example: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must look like {example}")
        return value

    return AfterValidator(check)


def _not_too_long(duration: str) -> str:
    if int(duration[:-1]) * _SECONDS[duration[-1]] > LONGEST_DAYS * 86400:
        raise ValueError(f"must be at most {LONGEST_DAYS * 24}h")
    return duration


def _not_too_large(size: str) -> str:
    if int(size.removesuffix("GB")) > LARGEST_GB:
        raise ValueError(f"must be at most {LARGEST_GB}GB")
    return size


def _absolute_or_none(path: str) -> str:
    return path if path == "none" else _absolute(path)


UrlPath = Annotated[str, AfterValidator(_absolute)]
MeshPath = Annotated[str, AfterValidator(_absolute_or_none)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, _matching(r"[1-9][0-9]{0,8}[smh]", "30m"), AfterValidator(_not_too_long)]
Gigabytes = Annotated[str, _matching(r"[1-9][0-9]{0,8}GB", "4GB"), AfterValidator(_not_too_large)]
Model = Annotated[str, _matching(r"[a-z0-9-]{1,63}/[A-Za-z0-9._-]{1,100}", "anthropic/claude-sonnet-5")]
Capability = Annotated[str, _matching(r"[a-z0-9][a-z0-9-]{0,62}", "customer-support")]
TypeName = Annotated[str, _matching(r"[a-z0-9][a-z0-9-]{0,62}", "tool-builder")]


def _person(number: int) -> int:
    if not 0 < number < TELEGRAM_IDS:
        raise ValueError(
            "must be a person's numeric Telegram id; a group's is negative, and belongs into groups"
        )
    return number


def _group(number: int) -> int:
    if not -TELEGRAM_IDS < number < 0:
        raise ValueError("must be a group's numeric Telegram id, which is negative")
    return number


# OpenClaw takes names, too, and then ignores them: a name can change hands, a number cannot.
TELEGRAM_IDS: Final = 1 << 52  # https://core.telegram.org/bots/api#user: at most 52 significant bits
Person = Annotated[StrictInt, AfterValidator(_person)]
Group = Annotated[StrictInt, AfterValidator(_group)]
People = Annotated[list[Person], Field(max_length=16)]
Groups = Annotated[list[Group], Field(max_length=16)]
DmPolicy = Literal["pairing", "allowlist", "open", "disabled"]
GroupPolicy = Literal["allowlist", "open", "disabled"]
Fallbacks = Annotated[list[Model], Field(max_length=8)]
Advisable = Annotated[list[Model], Field(max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProbeTemplate(_Strict):
    """The port and the paths at which a bot of this type answers; `mesh_path: none`, if it has no mesh."""

    port: Port = 18790
    health_path: UrlPath = "/health"
    mesh_path: MeshPath = "/mesh"


class ScalingTemplate(_Strict):
    """The number of bots of this type in an environment. Without it their number is people's."""

    min: Annotated[int, Field(ge=1, le=100)]
    max: Annotated[int, Field(ge=1, le=100)]
    target: Annotated[float, Field(gt=0, lt=1)]  # of the capacity that should be left, and of bots healthy

    @field_validator("max")
    @classmethod
    def _not_below_min(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min", value):
            raise ValueError(f"is less than min ({info.data['min']})")
        return value


class FilesTemplate(_Strict):
    """The files of a bot type: the hash of their archive, and of each by its path."""

    sha256: str
    names: dict[str, str]


class BotTemplate(_Strict):
    """One bot type. Durations as `30m`, sizes as `4GB`, as the files write them."""

    name: TypeName
    description: Annotated[str, Field(max_length=500)] = ""
    instance_type: str
    model: Model
    heartbeat: Duration
    memory: Gigabytes
    storage: Gigabytes
    compaction: Literal["safeguard", "default"] = "safeguard"
    cooldown: Duration
    capabilities: Annotated[list[Capability], Field(min_length=1, max_length=32)]
    probe: ProbeTemplate = ProbeTemplate()
    models: Annotated[
        list[Model], Field(max_length=64)
    ] = []  # that its bots may be advised to use; no bot is configured with it
    scaling: ScalingTemplate | None = None  # the same
    fallbacks: Fallbacks = []  # models to be asked in turn where the first one fails
    dm_policy: DmPolicy | None = None  # None: allowlist where there is an allow_from, else pairing
    allow_from: People = []  # who may write to it
    group_policy: GroupPolicy | None = None  # None: allowlist
    groups: Groups = []  # in which it answers those who mention it
    group_allow_from: People = []  # who may there; none: who may write to it
    files: FilesTemplate | None = None  # of the folder beside the YAML, which does not say it

    @property
    def storage_gib(self) -> int:
        """Return the size of its root volume in GiB."""
        return int(self.storage.removesuffix("GB"))

    @field_validator("instance_type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in INSTANCE_TYPES:
            raise ValueError(unknown_type(value))
        return value

    @field_validator("memory")
    @classmethod
    def _fits(cls, value: str, info: ValidationInfo) -> str:
        kind = INSTANCE_TYPES.get(str(info.data.get("instance_type")))
        if kind is not None and int(value.removesuffix("GB")) > max(1, kind.memory_gib):
            raise ValueError(f"is more than a {kind.name} has ({kind.memory_gib:g}GB)")
        return value


class TemplateFile(BaseModel):
    """A file: the type, and what differs in an environment."""

    base: dict[str, Any]
    overlays: Mapping[str, Mapping[str, Any]]

    def resolve(self, environment: str) -> BotTemplate:
        """Return the type as it is in that environment; raises pydantic's ValidationError."""
        return BotTemplate.model_validate(merged(self.base, self.overlays.get(environment, {})))


def merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return `overlay` over `base`: mappings are merged, everything else (lists too) is replaced."""
    result = dict(base)
    for key, value in overlay.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]  # narrowed by `both`
    return result


ENVIRONMENTS: Final[tuple[Environment, ...]] = ("production", "staging", "development")


class Templates:
    """Every bot type in a folder, checked in every environment at load."""

    def __init__(self, files: Mapping[str, TemplateFile], archives: Mapping[str, bytes] = {}) -> None:
        self._files = files
        self.archives = archives  # of the types' files, each by its SHA-256

    @property
    def names(self) -> list[str]:
        """Return the names of all types, sorted."""
        return sorted(self._files)

    @property
    def instance_types(self) -> list[str]:
        """Return the instance types that they ask for in any environment, sorted."""
        resolved = [self.get(name, environment) for name in self.names for environment in ENVIRONMENTS]
        return sorted({template.instance_type for template in resolved})

    def get(self, name: str, environment: str) -> BotTemplate:
        """Return the template as it is in that environment; KeyError where there is no such type."""
        return self._files[name].resolve(environment)


def load(folder: Path = BUNDLED) -> Templates:
    """Read every `*.yaml` of the folder, and the folders beside them.

    Raises TemplateError naming the file and the field.
    """
    files: dict[str, TemplateFile] = {}
    archives: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.yaml")):
        file = _read(path)
        if (own := _read_files(path)) is not None:
            archives[own.sha256] = own.archive
            file.base["files"] = {"sha256": own.sha256, "names": dict(own.names)}
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
    for path in sorted(path for kind in MANIFESTS for path in folder.glob(f"*/{kind}/")):
        if path.parent.name not in files:
            raise TemplateError(f"{path.parent.name}/", "", f"there is no {path.parent.name}.yaml beside it")
    return Templates(files, archives)


def _read_files(path: Path) -> Files | None:
    """Return what stands in the folder that is named as the YAML."""
    try:
        return read_files(path.with_suffix(""))
    except FilesError as error:
        raise TemplateError(f"{path.stem}/{error.name}", "", error.problem) from None


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
    _refuse_files(path, data, "")
    for unknown in sorted(map(str, set(overlays) - set(ENVIRONMENTS))):
        raise TemplateError(path.name, f"environments.{unknown}", f"is none of {', '.join(ENVIRONMENTS)}")
    for environment, overlay in overlays.items():
        _refuse_files(path, overlay, f"environments.{environment}.")
        if "name" in overlay:
            raise TemplateError(path.name, f"environments.{environment}.name", "cannot differ; remove it")
    return TemplateFile(base=data, overlays=overlays)


def _refuse_files(path: Path, fields: Mapping[str, Any], above: str) -> None:
    if "files" in fields:
        raise TemplateError(
            path.name, f"{above}files", f"remove it; files go to the folder {path.stem}/ beside it"
        )


def _named(path: Path, error: ValidationError, environment: str) -> TemplateError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    where = f" (in environment {environment})" if environment else ""
    problem = first["msg"].removeprefix("Value error, ")
    return TemplateError(path.name, field, problem + where)
