"""CloudEvents 1.0 as usage events, the way IngestCloudEvents reads them.

`id` is the event id, `source` the source, `type` the event type, `subject` the customer, `time` the instant; the
members of `data` (a JSON object of text, numbers and booleans) and the extension attributes are the properties. Numbers
keep every digit. What cannot be read so is refused with its path, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from steelyard.cloud_events_forms import map_json, map_protobuf
from steelyard.cloud_events_json import decode_json
from steelyard.cloud_events_mapping import MappedEvent
from steelyard.cloud_events_time import event_from_pb
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.errors import FieldViolation, InvalidRequest
from steelyard.events import UsageEvent


class CloudEventsRefused(InvalidRequest):
    """Content that holds no usage events. `violations` name each event's problem by its path, `[7].data.tokens` in a
    batch."""


def map_json_content(content: str | bytes) -> tuple[list[MappedEvent], bool]:
    """Map the event or the array of events of a JSON text, each with its problem if it has one; and say whether it was
    an array.

    :raises ValueError: if it is neither
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    value = decode_json(text)
    if isinstance(value, list):
        return [map_json(item) for item in value], True
    if isinstance(value, dict):
        return [map_json(value)], False
    raise ValueError("neither a CloudEvent, which is a JSON object, nor a batch, which is an array of them")


def usage_events_from_json(content: str | bytes) -> list[UsageEvent]:
    """Read application/cloudevents+json (one event) or application/cloudevents-batch+json (an array).

    :raises CloudEventsRefused: naming every event that cannot be mapped
    """
    try:
        mapped, is_batch = map_json_content(content)
    except ValueError as error:
        raise CloudEventsRefused(f"no CloudEvents: {error}", reason="NOT_CLOUD_EVENTS") from error
    return _events(mapped, is_batch=is_batch)


def usage_event_from_protobuf(content: bytes) -> UsageEvent:
    """Read an io.cloudevents.v1.CloudEvent.

    :raises CloudEventsRefused: if it cannot be mapped
    """
    try:
        message = cloud_event_pb2.CloudEvent.FromString(content)
    except DecodeError as error:
        raise CloudEventsRefused(f"no CloudEvent: {error}", reason="NOT_CLOUD_EVENTS") from error
    [event] = _events([map_protobuf(message)], is_batch=False)
    return event


def usage_events_from_protobuf_batch(content: bytes) -> list[UsageEvent]:
    """Read an io.cloudevents.v1.CloudEventBatch.

    :raises CloudEventsRefused: naming every event that cannot be mapped
    """
    try:
        batch = cloud_event_pb2.CloudEventBatch.FromString(content)
    except DecodeError as error:
        raise CloudEventsRefused(f"no CloudEventBatch: {error}", reason="NOT_CLOUD_EVENTS") from error
    return _events([map_protobuf(message) for message in batch.events], is_batch=True)


def _events(mapped: Sequence[MappedEvent], *, is_batch: bool) -> list[UsageEvent]:
    violations = []
    for index, item in enumerate(mapped):
        if item.problem is not None:
            path = ".".join(filter(None, (f"[{index}]" if is_batch else "", item.problem.field)))
            violations.append(FieldViolation(path, item.problem.reason, item.problem.description))
    if violations:
        message = f"{len(violations)} of {len(mapped)} CloudEvents are no usage events"
        raise CloudEventsRefused(message, reason="NOT_USAGE_EVENTS", violations=violations)
    return [event_from_pb(item.event) for item in mapped]
