"""botocore's models of AWS without what is never read of them: EC2's alone is 24 MB, of 3,000 shapes.

Here each shape, operation and list of endpoints stays text until somebody asks for it, and the documentation
is left out.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
import orjson
from botocore.loaders import JSONFileLoader, Loader

DOCUMENTATION: Final = ("documentation", "documentationUrl")
LARGE: Final = ("service-2", "endpoints")  # files


class Unread(dict[str, Any]):
    """A JSON object whose values are parsed when they are asked for, and kept from then on."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, bytes):
            value = orjson.loads(value)
            self[key] = value
        return value

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 -- that is this

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        return (self[key] for key in self)

    def items(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        return ((key, self[key]) for key in self)


class LeanLoader(JSONFileLoader):
    def load_file(self, file_path: str) -> Any:
        """The file of that name, with `.json` or `.json.gz` behind it; None where there is none."""
        for path, read in ((f"{file_path}.json", bytes), (f"{file_path}.json.gz", gzip.decompress)):
            if Path(path).is_file():
                text = read(Path(path).read_bytes())
                large = Path(file_path).name in LARGE
                return json.loads(text, object_pairs_hook=_lean) if large else orjson.loads(text)
        return None


def _lean(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any] | bytes:
    """Called from the inside out, so that no more than one entry is ever there as a whole."""
    made = {key: value for key, value in pairs if key not in DOCUMENTATION or not isinstance(value, str)}
    is_shape, is_operation = isinstance(made.get("type"), str), isinstance(made.get("http"), dict)
    if is_shape or is_operation or "endpoints" in made:
        return json.dumps(made).encode()  # orjson's bytes keep the whole of their buffer, 4 KB each
    return Unread(made) if any(isinstance(value, bytes) for value in made.values()) else made


def lean_session(region: str) -> boto3.session.Session:
    core = botocore.session.get_session()
    core.register_component("data_loader", Loader(file_loader=LeanLoader()))
    return boto3.session.Session(region_name=region, botocore_session=core)
