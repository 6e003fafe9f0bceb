"""What a CloudEvent means as a usage event: one mapping, for the server, the SDK and the command line.

CloudEvents 1.0.2: the core specification, its JSON format and its protobuf format
(https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents). Decision 0024 says what is decided here beyond them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from steelyard.cloud_events_json import JsonNumber, RepeatedNames, decode_json, property_text
from steelyard.cloud_events_time import is_instant, parse_rfc3339
from steelyard.errors import FieldViolation
from steelyard.ingest.v1 import usage_event_pb2

AttributeValue: TypeAlias = str | bool | Timestamp | object
"""Text, a JsonNumber, a boolean or an instant; anything else is refused."""

REQUIRED = frozenset({"id", "source", "specversion", "type"})
_FIELDS = {"id": "event_id", "source": "source", "type": "event_type", "subject": "customer_id"}
_CONTEXT = REQUIRED | {"subject", "time", "datacontenttype", "dataschema"}
_INFRASTRUCTURE = frozenset({"traceparent", "tracestate"})
"""The Distributed Tracing extension: it says how an event travelled, not what was used."""

_SEQUENCE = frozenset({"sequence", "sequencetype"})
"""The Sequence extension, if its type is Integer: numbers of the source, no properties."""

_NAME = re.compile(r"[a-z0-9]+")
_JSON_TYPE = re.compile(r"[^/;\s]+/(?:[^/;\s]+\+)?json", re.IGNORECASE)
# What the specification keeps out of its type String.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_INT32 = range(-(2**31), 2**31)
_SEQUENCES = range(1, 2**31)
_LONGEST_INT32 = len("-2147483648")
_LONGEST_NAME_SHOWN = 64


@dataclass(frozen=True, slots=True)
class MappedEvent:
    """A usage event, and why it is none: then it holds what of its identity could be read.

    The problem's field is a path in the CloudEvent, such as `data.tokens`.
    """

    event: usage_event_pb2.UsageEvent
    problem: FieldViolation | None


class Refused(Exception):
    """Something in a CloudEvent that cannot be mapped."""

    def __init__(self, field: str, reason: str, description: str) -> None:
        super().__init__(description)
        self.violation = FieldViolation(field, reason, description)


def set_identity(event: usage_event_pb2.UsageEvent, attributes: Mapping[str, AttributeValue]) -> None:
    """Put id, source, type and subject into the event, as far as they are set.

    :raises Refused: if one may not be what it is; the event then holds those before it
    """
    for name, field in _FIELDS.items():
        try:
            setattr(event, field, _text(attributes, name))
        except UnicodeEncodeError as error:
            raise Refused(name, "NOT_UNICODE", "must not contain lone surrogates") from error


def set_time(event: usage_event_pb2.UsageEvent, attributes: Mapping[str, AttributeValue]) -> None:
    """Put the time into an event that has its identity, and see to it that both are whole.

    :raises Refused: if not, or for another version of CloudEvents
    """
    if _text(attributes, "specversion") != "1.0":
        raise Refused("specversion", "SPEC_VERSION_UNSUPPORTED", "must be 1.0")
    for name, field in _FIELDS.items():
        if not attributes.get(name):
            raise Refused(name, "REQUIRED", f"must be set: it is the {field}")
    event.event_time.CopyFrom(_time(attributes))


def set_sequence(event: usage_event_pb2.UsageEvent, attributes: Mapping[str, AttributeValue]) -> None:
    """Put the number into an event, if it has one of the Sequence extension whose type is Integer.

    :raises Refused: if that is none
    """
    if attributes.get("sequencetype") != "Integer":
        return
    value = attributes.get("sequence")
    if not isinstance(value, str) or not (value.isascii() and value.isdecimal() and len(value) <= _LONGEST_INT32):
        raise Refused("sequence", "NOT_A_SEQUENCE", "must be the text of an integer, as sequencetype says")
    if int(value) not in _SEQUENCES:
        raise Refused("sequence", "NOT_A_SEQUENCE", "must be 1 to 2147483647")
    event.sequence = int(value)


def extensions_of(attributes: Mapping[str, AttributeValue]) -> dict[str, str]:
    """Return the extension attributes that are properties, as their text.

    :raises Refused: if one has a name or type that CloudEvents does not know
    """
    others = _CONTEXT | _INFRASTRUCTURE
    if attributes.get("sequencetype") == "Integer":
        others |= _SEQUENCE
    return {name: _extension(name, value) for name, value in attributes.items() if name not in others}


def check_json_type(attributes: Mapping[str, AttributeValue]) -> None:
    """
    :raises Refused: if datacontenttype says that the data is not JSON; without one it is
    """
    media_type = _text(attributes, "datacontenttype")
    if media_type and not _JSON_TYPE.fullmatch(media_type.partition(";")[0].strip()):
        raise Refused("datacontenttype", "CONTENT_TYPE_UNSUPPORTED", "must be JSON: application/json or ...+json")


def json_of(content: bytes | str, field: str) -> Any:
    """Decode data that is JSON in bytes or text of its own.

    :raises Refused: if it is not
    """
    try:
        return decode_json(content.decode() if isinstance(content, bytes) else content)
    except UnicodeDecodeError as error:
        raise Refused(field, "NOT_JSON", "must be JSON in UTF-8") from error
    except ValueError as error:
        raise Refused(field, "NOT_JSON", str(error)) from error


def set_properties(event: usage_event_pb2.UsageEvent, extensions: dict[str, str], data: Any) -> None:
    """Set the properties: the extension attributes, and the members of data, which may be missing (None).

    :raises Refused: if data is no flat object, or has a name twice or in common with an extension
    """
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise Refused("data", "NOT_AN_OBJECT", "must be a JSON object: its members are the properties")
    properties = dict(extensions)
    if isinstance(data, RepeatedNames):
        raise Refused(f"data.{shown(data.repeated[0])}", "NAME_REPEATED", "is there twice")
    for name, value in data.items():
        field = f"data.{shown(name)}"
        if name in properties:
            raise Refused(field, "NAME_AMBIGUOUS", "is an extension attribute as well")
        try:
            properties[name] = property_text(value)
        except TypeError as error:
            raise Refused(field, "NOT_A_PROPERTY", str(error)) from error
    try:
        event.properties.update(properties)
    except UnicodeEncodeError as error:
        raise Refused("data", "NOT_UNICODE", "must not contain lone surrogates") from error


def shown(name: str) -> str:
    """Return a name as messages can hold it: lone surrogates are written out, and it is cut."""
    return name[:_LONGEST_NAME_SHOWN].encode(errors="backslashreplace").decode()


def _text(attributes: Mapping[str, AttributeValue], name: str) -> str:
    """The text of a context attribute; empty if there is none."""
    value = attributes.get(name, "")
    if type(value) is not str:  # A number of JSON is none.
        raise Refused(name, "WRONG_TYPE", "must be text")
    return value


def _time(attributes: Mapping[str, AttributeValue]) -> Timestamp:
    value = attributes.get("time")
    if value is None:
        raise Refused("time", "REQUIRED", "must be set: it is the event_time")
    if isinstance(value, Timestamp):
        if not is_instant(value):
            raise Refused("time", "NOT_AN_INSTANT", "must lie in the years 1 to 9999, with nanos below 1,000,000,000")
        return value
    if type(value) is not str:
        raise Refused("time", "WRONG_TYPE", "must be an instant")
    try:
        return parse_rfc3339(value)
    except ValueError as error:
        raise Refused("time", "NOT_AN_INSTANT", str(error)) from error


def _extension(name: str, value: AttributeValue) -> str:
    if not _NAME.fullmatch(name):
        raise Refused(shown(name), "INVALID_ATTRIBUTE_NAME", "names of attributes are of a-z and 0-9")
    if isinstance(value, JsonNumber):
        return _integer(name, value)
    if isinstance(value, bool):
        return property_text(value)
    if isinstance(value, Timestamp) and is_instant(value):
        return value.ToJsonString()
    if type(value) is not str:
        raise Refused(shown(name), "WRONG_TYPE", "must be text, a boolean, an integer or an instant")
    if _FORBIDDEN.search(value):
        raise Refused(shown(name), "CONTROL_CHARACTER", "must not contain control characters")
    return value


def _integer(name: str, number: JsonNumber) -> str:
    """CloudEvents knows integers of 32 bits only; what is measured belongs into data, where any number may stand."""
    if len(number) <= _LONGEST_INT32 and number.removeprefix("-").isdecimal() and int(number) in _INT32:
        return str(int(number))
    raise Refused(shown(name), "NOT_AN_INTEGER", "must be an integer of 32 bits; other numbers belong into data")
