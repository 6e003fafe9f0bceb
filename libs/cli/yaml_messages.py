"""Messages of the protos as YAML documents, and back: the same field names, short names of enums, numbers as written.

Whatever is wrong is noted with its line and the path of its field, and reading goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_TRUTH = {"true": True, "false": False}
_WHOLE = {FieldDescriptor.CPPTYPE_INT32: 1 << 31, FieldDescriptor.CPPTYPE_INT64: 1 << 63}


class YamlError(ValueError):
    """A text holds no such documents; `problems` name lines and fields."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Document:
    """A message and the lines of its fields by their paths, such as `prices[0].meter_id`; the first line is 1."""

    message: Any
    lines: Mapping[str, int]

    def line_of(self, path: str) -> int:
        """The line of a field, or of what it would stand in."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines[path]


def read_documents(text: str, make: Callable[[], Message]) -> list[Document]:
    """Return one message per document that is not empty.

    :raises YamlError: naming everything that fits no field
    """
    try:
        # Nodes hold every value as the text that stands there: a number must not become a float on the way.
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.BaseLoader) if node is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError([f"no YAML: {error}"]) from error
    problems: list[str] = []
    documents = []
    for node in nodes:
        if isinstance(node, yaml.ScalarNode) and not node.value:
            continue
        reader = _Reader(problems)
        message = make()
        reader.message(message, node, "")
        documents.append(Document(message, reader.lines))
    if not documents and not problems:
        problems.append("there is nothing in it")
    if problems:
        raise YamlError(problems)
    return documents


def to_yaml(message: Message) -> str:
    """Return a document that `read_documents` turns into the message again; what is not set is left out."""
    text: str = yaml.safe_dump(_plain(message), sort_keys=False, allow_unicode=True, width=120)
    return text


class _Reader:
    def __init__(self, problems: list[str]) -> None:
        self._problems = problems
        self.lines: dict[str, int] = {}

    def message(self, into: Any, node: yaml.Node, path: str) -> None:
        self.lines.setdefault(path, _line(node))
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, path, "must be a mapping of fields")
            return
        descriptor: Descriptor = into.DESCRIPTOR
        seen: set[str] = set()
        for name_node, value_node in node.value:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
            inner = f"{path}.{name}" if path else name
            self.lines[inner] = _line(name_node)
            field = descriptor.fields_by_name.get(name)
            if field is None:
                self._wrong(name_node, inner, f"is no field; known are {', '.join(descriptor.fields_by_name)}")
            elif name in seen:
                self._wrong(name_node, inner, "stands there twice")
            else:
                seen.add(name)
                self._one_of(into, field, name_node, inner)
                self._field(into, field, value_node, inner)

    def _one_of(self, into: Any, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        group = field.containing_oneof
        other = into.WhichOneof(group.name) if group is not None and len(group.fields) > 1 else None
        if other is not None:
            self._wrong(node, path, f"cannot stand beside {other}")

    def _field(self, into: Any, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._map(getattr(into, field.name), field.message_type.fields_by_name["value"], node, path)
            return
        if not field.is_repeated:
            self._value(into, field, node, path)
            return
        if not isinstance(node, yaml.SequenceNode):
            self._wrong(node, path, "must be a list")
            return
        found = getattr(into, field.name)
        for index, item in enumerate(node.value):
            at = f"{path}[{index}]"
            if field.message_type is not None:
                self.message(found.add(), item, at)
            else:
                self.lines[at] = _line(item)
                found.append(self._scalar(field, item, at))

    def _map(self, into: Any, value: FieldDescriptor, node: yaml.Node, path: str) -> None:
        """Of texts by texts."""
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, path, "must be a mapping")
            return
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, path, "must have names that are one value")
            elif key_node.value in into:
                self._wrong(key_node, path, f"names {key_node.value!r} twice")
            else:
                into[key_node.value] = self._scalar(value, value_node, path)

    def _value(self, into: Any, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        if field.message_type is None:
            setattr(into, field.name, self._scalar(field, node, path))
        elif field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            self._instant(getattr(into, field.name), node, path)
        else:
            inner = getattr(into, field.name)
            inner.SetInParent()
            self.message(inner, node, path)

    def _scalar(self, field: FieldDescriptor, node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self._wrong(node, path, "must be one value")
            return field.default_value
        text: str = node.value
        if field.enum_type is not None:
            return self._word(_short_names(field.enum_type), node, path)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self._word(_TRUTH, node, path)
        if field.cpp_type in _WHOLE:
            return self._whole(text, _WHOLE[field.cpp_type], node, path)
        return text

    def _word(self, choices: Mapping[str, Any], node: yaml.ScalarNode, path: str) -> Any:
        if node.value not in choices:
            self._wrong(node, path, f"must be one of {', '.join(choices)}")
            return next(iter(choices.values()))
        return choices[node.value]

    def _whole(self, text: str, limit: int, node: yaml.Node, path: str) -> int:
        try:
            number = int(text)
        except ValueError:
            self._wrong(node, path, "must be a whole number")
            return 0
        if not -limit <= number < limit:
            self._wrong(node, path, "is too large")
            return 0
        return number

    def _instant(self, into: Timestamp, node: yaml.Node, path: str) -> None:
        try:
            value = datetime.fromisoformat(node.value)
            if value.tzinfo is None:
                raise ValueError("no offset")
        except (TypeError, ValueError):
            self._wrong(node, path, "must be an instant with an offset, as 2026-04-01T00:00:00Z")
            return
        into.FromDatetime(value.astimezone(UTC))

    def _wrong(self, node: yaml.Node, path: str, what: str) -> None:
        self._problems.append(f"line {_line(node)}: {path + ': ' if path else ''}{what}")


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _short_names(enum: EnumDescriptor) -> dict[str, int]:
    """Values by their names without the prefix that all share, and without the unspecified one."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def _plain(message: Message) -> Any:
    if isinstance(message, Timestamp):
        return message.ToJsonString()
    return {field.name: _plain_field(field, value) for field, value in message.ListFields()}


def _plain_field(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_plain_value(field, item) for item in value]
    return _plain_value(field, value)


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        return next(name for name, number in _short_names(field.enum_type).items() if number == value)
    return value
