"""CloudEvents on the wire: as the usage events that AcceptUsage takes, and what is wrong with those that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from libs.errors import InvalidInput, Violation
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from steelyard.cloud_events_forms import map_json, map_protobuf
from steelyard.cloud_events_json import decode_json
from steelyard.cloud_events_mapping import MappedEvent
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2

_Mapping = Callable[[], MappedEvent]


@dataclass(frozen=True, slots=True)
class MappedBatch:
    """Usage events in the order of the request. One that has a problem, by its index, holds only what of its identity
    could be read. `size_bytes` is what the events have as a request of IngestEvents."""

    events: list[usage_event_pb2.UsageEvent]
    problems: dict[int, Violation]
    size_bytes: int


def map_cloud_events(request: ingest_service_pb2.IngestCloudEventsRequest) -> MappedBatch:
    """
    :raises InvalidInput: if the content as a whole cannot be read or is beyond the limits of a batch
    """
    form = request.WhichOneof("content")
    if form is None:
        raise _invalid("content", "CONTENT_MISSING", "must be event, batch or json")
    _check_size(form, request.ByteSize())
    mappings = _mappings(request, form)
    if not mappings:
        raise _invalid(form, "BATCH_EMPTY", "must hold at least one event")
    if len(mappings) > MAX_BATCH_EVENTS:
        description = f"must hold at most {MAX_BATCH_EVENTS} events, holds {len(mappings)}"
        raise _invalid(form, "BATCH_TOO_LARGE", description)
    return _batch(form, [mapping() for mapping in mappings])


def _mappings(request: ingest_service_pb2.IngestCloudEventsRequest, form: str) -> Sequence[_Mapping]:
    """One mapping per event, not yet done: how many there are is looked at before any work."""
    if form == "event":
        return [partial(map_protobuf, request.event)]
    if form == "batch":
        return [partial(map_protobuf, event) for event in request.batch.events]
    return [partial(map_json, value) for value in _values(request.json)]


def _values(content: bytes) -> list[Any]:
    try:
        value = decode_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _invalid("json", "NOT_CLOUD_EVENTS", "must be UTF-8") from error
    except ValueError as error:
        raise _invalid("json", "NOT_CLOUD_EVENTS", str(error)) from error
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value]
    raise _invalid("json", "NOT_CLOUD_EVENTS", "must be an object, or an array of objects")


def _batch(form: str, mapped: Sequence[MappedEvent]) -> MappedBatch:
    events = [item.event for item in mapped]
    # What is short in JSON may be longer in the queue: many properties with short names are.
    size_bytes = ingest_service_pb2.IngestEventsRequest(events=events).ByteSize()
    _check_size(form, size_bytes)
    problems = {
        index: Violation(item.problem.field, item.problem.reason, item.problem.description)
        for index, item in enumerate(mapped)
        if item.problem is not None
    }
    return MappedBatch(events, problems, size_bytes)


def _check_size(form: str, size_bytes: int) -> None:
    if size_bytes > MAX_BATCH_BYTES:
        description = f"must have at most {MAX_BATCH_BYTES} bytes, also as usage events, has {size_bytes}"
        raise _invalid(form, "BATCH_TOO_LARGE", description)


def _invalid(field: str, reason: str, description: str) -> InvalidInput:
    return InvalidInput([Violation(field, reason, description)], reason=reason)
