"""The lean models say of AWS what botocore's own say."""

from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from remediator.awsmodels import CALLED, Unread, lean_session
from tests.remediator.test_iam import called


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


def test_what_is_called_is_kept_and_no_more() -> None:
    assert {f"{service}:{name}" for service, names in CALLED.items() for name in names} == set(called())


def _described(shape: object, seen: tuple[str, ...] = ()) -> object:
    """All that is in it, down to the leaves, as far as it matters to a request and to an answer."""
    name, kind = getattr(shape, "name", ""), getattr(shape, "type_name", "")
    if name in seen:
        return name
    inner = [*getattr(shape, "members", {}).items()]
    inner += [(part, getattr(shape, part)) for part in ("member", "key", "value") if hasattr(shape, part)]
    told = {key: _described(one, (*seen, name)) for key, one in inner}
    required = sorted(getattr(shape, "required_members", []))
    serialization = {**getattr(shape, "serialization", {})}
    return name, kind, required, serialization, getattr(shape, "enum", []), told


def test_a_client_finds_its_endpoint_without_being_told() -> None:
    session: Any = lean_session("us-west-1")
    for service in ("ec2", "ssm"):
        client = session.client(service, endpoint_url=None, config=Config())
        assert client.meta.endpoint_url == f"https://{service}.us-west-1.amazonaws.com"
        assert "us-west-1" in session.get_available_regions(service)


def test_what_is_unread_is_read_once() -> None:
    table = Unread(a=b'{"one": 1}', b=2)
    assert table["a"] == {"one": 1}
    assert table["a"] is table["a"]
    assert table.get("c", 3) == 3
    assert dict(table.items()) == {"a": {"one": 1}, "b": 2}
    assert list(table.values()) == [{"one": 1}, 2]
    with pytest.raises(KeyError):
        table["c"]
