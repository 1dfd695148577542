"""YAML as it is written, and no key twice."""

import pytest

from exporter.fleet.yaml_documents import load_yaml


def labels_of(text: str) -> object:
    document = load_yaml(f"- targets: ['127.0.0.1:1']\n  labels: {text}\n".encode())
    assert isinstance(document, list)
    return document[0]["labels"]


@pytest.mark.parametrize(
    "scalar",
    [
        "1.10",
        "0123",
        "no",
        "yes",
        "0x1f",
        "1e3",
        "2026-01-02",
        "12:30:45",
        "null",
        "~",
        "True",
        ".inf",
        "1_000",
    ],
)
def test_a_label_is_read_as_it_is_written(scalar: str) -> None:
    assert labels_of(f"{{bot: forge, release: {scalar}, {scalar}: key}}") == {
        "bot": "forge",
        "release": scalar,
        scalar: "key",
    }


def test_quotes_blocks_anchors_and_merges_are_read() -> None:
    text = """
    - &one {targets: ["a:1"], labels: &common {bot: "one", env: 'no', text: "a\\tb"}}
    - targets: ["b:1"]
      labels:
        <<: *common
        bot: two
    - *one
    - {targets: , labels: null}
    """
    first = {"targets": ["a:1"], "labels": {"bot": "one", "env": "no", "text": "a\tb"}}
    second = {"targets": ["b:1"], "labels": {"bot": "two", "env": "no", "text": "a\tb"}}
    assert load_yaml(text.encode()) == [first, second, first, {"targets": None, "labels": None}]


@pytest.mark.parametrize("empty", ["", "~", "null", "# nothing\n"])
def test_an_empty_document_is_none(empty: str) -> None:
    assert load_yaml(empty.encode()) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- targets: ['a:1']\n  targets: ['b:1']\n", "the key targets stands twice, line 2, column 3"),
        ("- {labels: {bot: a, bot: b}}", "the key bot stands twice"),
        ("- {targets: []}\n---\n- {targets: []}", "second document"),
        ("- {[a, b]: c}", "a key is no text"),
        ("- *nobody", "unknown anchor nobody"),
        ("[" * 100_000, "nested deeper than 16"),
        ("- {targets: [", "line 2"),
        ("- !!python/object/apply:os.system ['true']\n  x", "line"),
    ],
    ids=["twice", "label", "documents", "key", "anchor", "deep", "half", "tag"],
)
def test_what_is_refused_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_yaml(text.encode())


def test_an_alias_of_what_is_not_complete_ends() -> None:
    document = load_yaml(b"&all [*all, a]")
    assert isinstance(document, list)
    assert document[0] is document


def test_a_refusal_quotes_no_value() -> None:
    with pytest.raises(ValueError, match="line") as refused:
        load_yaml(b"basic_auth_users: {prometheus: hunter2\n  x: 'hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("raw", [b"\x00\xff", b"\xff\xff\xff", b"a: \x07"])
def test_what_is_no_text_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        load_yaml(raw)
