"""The forms of a CloudEvent, JSON and protobuf, each taken apart for the one mapping."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from steelyard.cloud_events_json import JsonNumber, RepeatedNames
from steelyard.cloud_events_mapping import (
    REQUIRED,
    AttributeValue,
    MappedEvent,
    Refused,
    check_json_type,
    extensions_of,
    json_of,
    set_identity,
    set_properties,
    set_sequence,
    set_time,
    shown,
)
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import usage_event_pb2

_DATA = frozenset({"data", "data_base64"})


def map_json(value: Any) -> MappedEvent:
    """Map an event of the JSON format, decoded by EXACT_JSON."""
    event = usage_event_pb2.UsageEvent()
    try:
        _fill_from_json(event, value)
    except Refused as refused:
        return MappedEvent(event, refused.violation)
    return MappedEvent(event, None)


def map_protobuf(message: cloud_event_pb2.CloudEvent) -> MappedEvent:
    """Map an event of the protobuf format."""
    event = usage_event_pb2.UsageEvent()
    try:
        _fill_from_protobuf(event, message)
    except Refused as refused:
        return MappedEvent(event, refused.violation)
    return MappedEvent(event, None)


def _fill_from_json(event: usage_event_pb2.UsageEvent, value: Any) -> None:
    if not isinstance(value, dict):
        raise Refused("", "NOT_AN_OBJECT", "a CloudEvent is a JSON object")
    # An attribute that is null is one that is not set.
    members = {name: member for name, member in value.items() if member is not None}
    attributes = {name: member for name, member in members.items() if name not in _DATA}
    set_identity(event, attributes)
    if isinstance(value, RepeatedNames):
        raise Refused(shown(value.repeated[0]), "NAME_REPEATED", "is there twice")
    set_time(event, attributes)
    set_sequence(event, attributes)
    extensions = extensions_of(attributes)
    if members.keys() >= _DATA:
        raise Refused("data_base64", "DATA_AMBIGUOUS", "must not be there beside data")
    if _DATA & members.keys():
        check_json_type(attributes)
    data = members.get("data")
    if "data_base64" in members:
        data = json_of(_bytes_of(members["data_base64"]), "data_base64")
    set_properties(event, extensions, data)


def _bytes_of(text: object) -> bytes:
    if type(text) is not str:
        raise Refused("data_base64", "WRONG_TYPE", "must be text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("data_base64", "NOT_BASE64", "must be base64 (RFC 4648)") from error


def _fill_from_protobuf(event: usage_event_pb2.UsageEvent, message: cloud_event_pb2.CloudEvent) -> None:
    attributes: dict[str, AttributeValue] = {
        "id": message.id,
        "source": message.source,
        "specversion": message.spec_version,
        "type": message.type,
    }
    misplaced = sorted(message.attributes.keys() & (REQUIRED | {"data"}))
    attributes |= {
        name: _attribute(value) for name, value in message.attributes.items() if name not in REQUIRED and name != "data"
    }
    set_identity(event, attributes)
    set_time(event, attributes)
    set_sequence(event, attributes)
    extensions = extensions_of(attributes)
    if misplaced:
        raise Refused(misplaced[0], "NAME_REPEATED", "has a field of its own and is no name of another attribute")
    form = message.WhichOneof("data")
    if form == "proto_data":
        description = "messages are not read: a google.protobuf.Struct, say, has lost digits; send JSON as text_data"
        raise Refused("proto_data", "PROTO_DATA_UNSUPPORTED", description)
    if form is not None:
        check_json_type(attributes)
    set_properties(event, extensions, None if form is None else json_of(getattr(message, form), form))


def _attribute(value: cloud_event_pb2.CloudEventAttributeValue) -> AttributeValue:
    """The value as the JSON format has it, except that an instant stays one. None if it has no type known here."""
    form = value.WhichOneof("attr")
    if form is None:
        return None
    if form == "ce_bytes":
        return base64.b64encode(value.ce_bytes).decode()
    if form == "ce_integer":
        return JsonNumber(value.ce_integer)
    held: AttributeValue = getattr(value, form)
    return held
