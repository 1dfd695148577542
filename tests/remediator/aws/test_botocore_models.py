"""The lean models say of AWS what botocore's own say."""

from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from remediator.aws.botocore_models import CALLED, LazyJson, lean_session
from tests.remediator.aws.test_iam import called


@pytest.mark.parametrize("service", CALLED)
def test_an_operation_has_the_shapes_that_botocore_knows(service: str) -> None:
    session: Any = lean_session("us-west-1")
    lean = session.client(service, endpoint_url=None, config=Config()).meta.service_model
    whole = botocore.session.get_session().get_service_model(service)
    assert set(lean.operation_names) == CALLED[service]
    for name in lean.operation_names:
        ours, theirs = lean.operation_model(name), whole.operation_model(name)
        assert _described(ours.input_shape) == _described(theirs.input_shape)
        assert _described(ours.output_shape) == _described(theirs.output_shape)
        assert [shape.name for shape in ours.error_shapes] == [shape.name for shape in theirs.error_shapes]
        assert ours.http == theirs.http


def test_the_operations_that_are_called_are_there_and_no_others() -> None:
    assert {f"{service}:{name}" for service, names in CALLED.items() for name in names} == set(called())


def _described(shape: object, above: tuple[str, ...] = ()) -> object:
    """Return all that is in a shape, down to the leaves, as far as a request or an answer depends on it."""
    name, kind = getattr(shape, "name", ""), getattr(shape, "type_name", "")
    if name in above:
        return name
    inner = [*getattr(shape, "members", {}).items()]
    inner += [(name_, getattr(shape, name_)) for name_ in ("member", "key", "value") if hasattr(shape, name_)]
    described = {key: _described(part, (*above, name)) for key, part in inner}
    required = sorted(getattr(shape, "required_members", []))
    serialization = {**getattr(shape, "serialization", {})}
    return name, kind, required, serialization, getattr(shape, "enum", []), described


def test_a_client_finds_its_endpoint_without_being_told() -> None:
    session: Any = lean_session("us-west-1")
    for service in ("ec2", "ssm"):
        client = session.client(service, endpoint_url=None, config=Config())
        assert client.meta.endpoint_url == f"https://{service}.us-west-1.amazonaws.com"
        assert "us-west-1" in session.get_available_regions(service)


def test_what_is_unread_is_read_once() -> None:
    table = LazyJson(a=b'{"one": 1}', b=2)
    assert table["a"] == {"one": 1}
    assert table["a"] is table["a"]
    assert table.get("c", 3) == 3
    assert dict(table.items()) == {"a": {"one": 1}, "b": 2}
    assert list(table.values()) == [{"one": 1}, 2]
    with pytest.raises(KeyError):
        table["c"]
