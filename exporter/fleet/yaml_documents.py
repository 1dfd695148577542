"""YAML as Prometheus reads it where text belongs: scalars as they are written, and no key twice."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_DEEPEST = 16
_TEXT_FROM = 3  # how deep in a list of groups, or in its likes, all scalars are text: 1.10, no, ~
_NULLS = ("", "~", "null", "Null", "NULL")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Frame:
    """A collection that is not complete yet; `key` is the one whose value comes next."""

    content: dict[str, object] | list[object]
    key: str | None = None
    merged: list[object] = field(default_factory=list)


def load_yaml(raw: bytes) -> object:
    """Read one document; ValueError, which quotes no value of it, says where it is wrong.

    The outermost collections may hold nulls; from the third on all scalars are strings.
    """
    try:
        return _Builder().build(yaml.parse(raw, Loader=_Loader))
    except yaml.MarkedYAMLError as error:  # whose text may quote the lines around it
        raise ValueError(f"{error.problem or 'broken'}{_position(error.problem_mark)}") from None
    except yaml.YAMLError as error:
        raise ValueError(getattr(error, "reason", None) or "is no text in UTF-8 or UTF-16") from None


class _Builder:
    """Builds a document from libyaml's events, which nest without recursion."""

    def __init__(self) -> None:
        self._stack: list[_Frame] = []
        self._anchors: dict[str, object] = {}
        self._document: object = None
        self._documents = 0

    def build(self, events: Iterator[yaml.Event]) -> object:
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    self._documents += 1
                    if self._documents > 1:
                        raise ValueError(f"a second document begins{_position(event.start_mark)}")
                case yaml.ScalarEvent():
                    self._add(self._scalar(event), event)
                case yaml.AliasEvent():
                    if event.anchor not in self._anchors:
                        raise ValueError(f"unknown anchor {event.anchor}{_position(event.start_mark)}")
                    self._add(self._anchors[event.anchor], event, alias=True)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._open({} if isinstance(event, yaml.MappingStartEvent) else [], event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._close()
        return self._document

    def _scalar(self, event: yaml.ScalarEvent) -> str | None:
        is_null = event.implicit[0] and event.value in _NULLS and len(self._stack) < _TEXT_FROM
        frame = self._stack[-1] if self._stack else None
        is_key = frame is not None and isinstance(frame.content, dict) and frame.key is None
        return None if is_null and not is_key else str(event.value)

    def _open(self, content: dict[str, object] | list[object], event: yaml.NodeEvent) -> None:
        self._add(content, event)
        self._stack.append(_Frame(content))
        if len(self._stack) > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}{_position(event.start_mark)}")

    def _close(self) -> None:
        frame = self._stack.pop()
        for source in frame.merged:
            for mapping in source if isinstance(source, list) else [source]:
                if isinstance(mapping, dict) and isinstance(frame.content, dict):
                    frame.content.update({k: v for k, v in mapping.items() if k not in frame.content})

    def _add(self, value: object, event: yaml.NodeEvent, *, alias: bool = False) -> None:
        if event.anchor is not None and not alias:
            self._anchors[event.anchor] = value
        if not self._stack:
            self._document = value
            return
        frame = self._stack[-1]
        if isinstance(frame.content, list):
            frame.content.append(value)
        elif frame.key is None:
            if not isinstance(value, str):
                raise ValueError(f"a key is no text{_position(event.start_mark)}")
            if value in frame.content:
                raise ValueError(f"the key {value} stands twice{_position(event.start_mark)}")
            frame.key = value
        elif frame.key == "<<":
            frame.merged.append(value)
            frame.key = None
        else:
            frame.content[frame.key] = value
            frame.key = None


def _position(mark: Any) -> str:
    """Return where a mark is, which the loader in C has in a type of its own."""
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
