"""Messages of producers on NATS: CloudEvents in binary and structured mode, as usage events.

The modes are those of the NATS protocol binding for CloudEvents
(https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md); batches, which it does
not have, are those of the HTTP binding.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from libs.errors import InvalidInput, ServiceError, Violation
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES
from services.ingest.usecases.accept_usage import Acceptance
from services.ingest.wire.batches import VERDICTS, problem_to_pb
from services.ingest.wire.cloud_events import MappedBatch, map_cloud_events
from steelyard.cloud_events_forms import map_json
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import usage_event_pb2

_STRUCTURED = "application/cloudevents"
_ATTRIBUTE = "ce-"
_UNDECODABLE = "\ufffd"
_NOT_IN_HEADERS = ("data", "data_base64")


def read_message(headers: Mapping[str, str], payload: bytes) -> MappedBatch:
    """Return the usage events of a message, whose headers may have their names in any case.

    Whatever it is, there is at least one event: of a message that cannot be read it is an empty one with a problem.
    """
    try:
        lowered = {name.lower(): value for name, value in headers.items()}
        if len(lowered) < len(headers):
            raise InvalidInput.of("headers", "NAME_REPEATED", "one is there twice, in other letters")
        return _read(lowered, payload)
    except InvalidInput as error:
        return refused(error.violations[0])
    except DecodeError:
        return refused(Violation("data", "NOT_CLOUD_EVENTS", "must be what its content-type says"))


def refused(problem: Violation) -> MappedBatch:
    """A message of which nothing is known but what is wrong with it."""
    event = usage_event_pb2.UsageEvent()
    return MappedBatch([event], {0: problem}, _size_bytes(event))


def answer_of(acceptance: Acceptance, first: int, count: int, acceptor_epoch: str) -> bytes:
    """What became of events `first` to `first + count`, as the JSON form of IngestCloudEventsResponse."""
    answer = pb.IngestCloudEventsResponse(
        verdicts=[VERDICTS[fate] for fate in acceptance.fates[first : first + count]],
        problems=[
            problem_to_pb(problem, index - first)
            for index, problem in acceptance.problems
            if first <= index < first + count
        ],
        receipt=pb.BatchReceipt(acceptor_epoch=acceptor_epoch, batch_number=acceptance.batch_number),
    )
    return json.dumps(MessageToDict(answer, preserving_proto_field_name=True)).encode()


def answer_of_error(error: ServiceError) -> bytes:
    """Why nothing of a message was looked at."""
    return json.dumps({"error": {"reason": error.reason, "description": error.message}}).encode()


def _read(headers: Mapping[str, str], payload: bytes) -> MappedBatch:
    """
    :raises InvalidInput, DecodeError: if the message as a whole cannot be read or is beyond the limits of a batch
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    # What says neither how it is encoded nor that its attributes are in headers is JSON, as it was before NATS had any.
    if not media_type.startswith(_STRUCTURED) and f"{_ATTRIBUTE}specversion" in headers:
        return _binary(headers, payload)
    match media_type:
        case "" | "application/json" | "application/cloudevents+json" | "application/cloudevents-batch+json":
            return map_cloud_events(pb.IngestCloudEventsRequest(json=payload))
        case "application/cloudevents+protobuf":
            event = cloud_event_pb2.CloudEvent.FromString(payload)
            return map_cloud_events(pb.IngestCloudEventsRequest(event=event))
        case "application/cloudevents-batch+protobuf":
            batch = cloud_event_pb2.CloudEventBatch.FromString(payload)
            return map_cloud_events(pb.IngestCloudEventsRequest(batch=batch))
        case other:
            description = f"must be JSON or protobuf of CloudEvents, is {other[:64]!r}"
            raise InvalidInput.of("content-type", "CONTENT_TYPE_UNSUPPORTED", description)


def _binary(headers: Mapping[str, str], payload: bytes) -> MappedBatch:
    attributes: dict[str, str] = {}
    for header, value in headers.items():
        name = header.removeprefix(_ATTRIBUTE)
        if name == header:
            continue
        if name in _NOT_IN_HEADERS:
            raise InvalidInput.of(header, "INVALID_ATTRIBUTE_NAME", "is no attribute: data is the payload")
        if _UNDECODABLE in value:  # What the client has put in place of bytes that are no UTF-8.
            raise InvalidInput.of(header, "NOT_UNICODE", "must be UTF-8, percent-encoded")
        try:
            attributes[name] = unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise InvalidInput.of(header, "NOT_UNICODE", "must be UTF-8, percent-encoded") from error
    if "content-type" in headers:
        attributes.setdefault("datacontenttype", headers["content-type"])
    # As the JSON format has bytes that are JSON: there is one mapping.
    data = {"data_base64": base64.b64encode(payload).decode()} if payload else {}
    mapped = map_json(attributes | data)
    problems = {}
    if mapped.problem is not None:
        field = "data" if mapped.problem.field == "data_base64" else mapped.problem.field
        problems[0] = Violation(field, mapped.problem.reason, mapped.problem.description)
    size_bytes = _size_bytes(mapped.event)
    if max(size_bytes, len(payload)) > MAX_BATCH_BYTES:
        raise InvalidInput.of("data", "BATCH_TOO_LARGE", f"must have at most {MAX_BATCH_BYTES} bytes, has {size_bytes}")
    return MappedBatch([mapped.event], problems, size_bytes)


def _size_bytes(event: usage_event_pb2.UsageEvent) -> int:
    return pb.IngestEventsRequest(events=[event]).ByteSize()
