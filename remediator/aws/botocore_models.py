"""botocore's models of AWS without what is never read of them: EC2's alone is 24 MB, of 3,000 shapes.

Only the operations that we call are left, with their shapes; each of those, and each list of endpoints, stays
text until it is read; and the documentation is left out.
"""

import gzip
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
import orjson
from botocore.loaders import JSONFileLoader, Loader

DOCUMENTATION: Final = ("documentation", "documentationUrl")
LARGE: Final = ("service-2", "endpoints")  # files
CALLED: Final = {
    "ec2": {
        "AllocateAddress", "AssociateAddress", "CreateSnapshot", "CreateTags", "DeleteVolume",
        "DescribeAddresses", "DescribeInstanceAttribute", "DescribeInstances", "DescribeSnapshots",
        "DescribeVolumes", "DisassociateAddress", "ModifyInstanceAttribute", "ModifyInstanceMetadataOptions",
        "RebootInstances", "ReleaseAddress", "RunInstances", "StartInstances", "StopInstances",
        "TerminateInstances",
    },
    "pricing": {"GetProducts"},
    "s3": {"GetObject", "PutObject"},
    "ssm": {
        "CreateDocument", "DeleteParameter", "GetCommandInvocation", "GetDocument", "GetParameter",
        "ListCommands", "PutParameter", "SendCommand", "UpdateDocument",
        "UpdateDocumentDefaultVersion",
    },
}  # fmt: skip
SHAPE: Final = re.compile(rb'"shape": "(\w+)"')


class LazyJson(dict[str, Any]):
    """A JSON object each of whose values is parsed when it is first read."""

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
    """botocore's loader of its data files, which leaves out what is never read."""

    def load_file(self, file_path: str) -> Any:
        """Read the file of that name with `.json` or `.json.gz` behind it; None where there is none."""
        for path, read in ((f"{file_path}.json", bytes), (f"{file_path}.json.gz", gzip.decompress)):
            if Path(path).is_file():
                text = read(Path(path).read_bytes())
                if Path(file_path).name not in LARGE:
                    return orjson.loads(text)
                model = json.loads(text, object_pairs_hook=_lean)
                called = CALLED.get(Path(file_path).parents[1].name)  # SERVICE/VERSION/service-2
                return model if called is None else _only(model, called)
        return None


def _only(model: dict[str, Any], called: Collection[str]) -> dict[str, Any]:
    """Return the model with those operations alone, and the shapes that they lead to."""
    operations = {name: text for name, text in dict.items(model["operations"]) if name in called}
    texts, shapes = [*operations.values()], {}
    while texts:
        for name in SHAPE.findall(texts.pop()):
            if (shape := name.decode()) not in shapes:
                shapes[shape] = dict.__getitem__(model["shapes"], shape)
                texts.append(shapes[shape])
    read = {  # of S3: botocore reads their documentation, too
        name: {"documentation": "", **parameter}
        for name, parameter in model.get("clientContextParams", {}).items()
    }
    lean = {"operations": LazyJson(operations), "shapes": LazyJson(shapes)}
    return model | lean | ({"clientContextParams": read} if read else {})


def _lean(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any] | bytes:
    """Make an object of JSON text, as text where it is a shape, an operation or a list of endpoints.

    Called from the inside out, so that no more than one entry is ever in memory as a whole.
    """
    entry = {key: value for key, value in pairs if key not in DOCUMENTATION or not isinstance(value, str)}
    is_shape, is_operation = isinstance(entry.get("type"), str), isinstance(entry.get("http"), dict)
    if is_shape or is_operation or "endpoints" in entry:
        return json.dumps(entry).encode()  # orjson's bytes keep the whole of their buffer, 4 KB each
    return LazyJson(entry) if any(isinstance(value, bytes) for value in entry.values()) else entry


def lean_session(region: str) -> boto3.session.Session:
    """Return a session of boto3 whose clients are made of the lean models."""
    core = botocore.session.get_session()
    core.register_component("data_loader", Loader(file_loader=LeanLoader()))
    return boto3.session.Session(region_name=region, botocore_session=core)
