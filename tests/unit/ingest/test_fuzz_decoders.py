"""Whatever comes in: decoders and checks fail with their own errors only, and let in nothing that a second check
refuses.

`make test-slow` tries a million inputs; a few thousand of them, the same in each run, are tried with all other tests.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest
from google.protobuf.message import DecodeError
from nats.aio.client import Client

from libs.cli.meter_files import MeterFileError, parse_meters
from libs.errors import InvalidInput, Violation
from libs.messaging import Delivery, UnreadableMessage
from services.ingest.domain.door import DoorPolicy, door_problems, time_problems, to_ns
from services.ingest.domain.expressions import EvaluationFailed, ExpressionRejected, compile_expression
from services.ingest.domain.measuring import Measurement, measure
from services.ingest.domain.meter import Aggregation, Meter, meter_violations
from services.ingest.domain.recording import Fate, RecordingBatch
from services.ingest.domain.usage_batch import EventMessage, UsageColumns
from services.ingest.messaging.usage_recorder import UsageRecorder, batch_of, tenant_of
from services.ingest.rpc.batch_limits import check_batch, check_level
from services.ingest.store.meter_options import filters_from_json, filters_to_json, options_from_json, options_to_json
from services.ingest.usecases.ports import OutgoingBatch, QueuedBatch, QueuedMarker
from services.ingest.usecases.record_usage import ChunkReport, RecordUsage
from services.ingest.wire.batches import batch_from_pb, encode_batch, outcome_to_pb
from services.ingest.wire.cloud_events import map_cloud_events
from services.ingest.wire.meters import meter_from_pb, meter_to_pb
from services.ingest.wire.producer_messages import read_message
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import usage_event_pb2, usage_raw_pb2
from tests.support.acceptable import is_name, number, objection_to_event
from tests.support.mutation import NASTY_TEXTS, any_byte, any_character, mutated

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NOW_NS = to_ns(NOW)
METERS = (
    Meter("amounts", "", "metered", Aggregation.SUM, "amount"),
    Meter("users", "", "metered", Aggregation.UNIQUE_COUNT, "concat(user, '/', amount)"),
    Meter("calls", "", "x", Aggregation.COUNT, group_by=("p",)),
)
TIMES_S = (0, 1, -1, NOW_NS // 10**9, NOW_NS // 10**9 - 34 * 86_400, 1 << 40, -(1 << 62), (1 << 63) - 1)
NANOS = (0, 0, 0, 1, 999_999_999, 10**9, -1, -(1 << 31), (1 << 31) - 1)
LEVELS = (pb.ACK_LEVEL_UNSPECIFIED, *(pb.ACK_LEVEL_QUEUED,) * 2, *(pb.ACK_LEVEL_RECORDED,) * 2)
CHUNK = 500

Check = Callable[[int, int], int]
"""Tries so many inputs of a seed; returns how many things were let in."""


def take(events: Sequence[EventMessage], refused: Mapping[int, Violation]) -> int:
    """What an acceptor does with events, the queue's encoding included, and the second opinion on those let in."""
    columns = UsageColumns.from_messages(events)
    problems = {**time_problems(columns), **door_problems(columns, DoorPolicy(), NOW), **refused}
    measured = measure(columns, METERS, problems)
    problems |= measured.problems
    for index, event in enumerate(events):
        if index not in problems:
            texts = {name: getattr(event, name) for name in ("event_id", "source", "event_type", "customer_id")}
            nanos, time_ns = event.event_time.nanos, columns.times_ns[index]
            objection = objection_to_event(texts, time_ns, nanos, columns.properties[index], NOW_NS)
            assert not objection, objection
    check_measured(measured, columns)
    batch = OutgoingBatch(
        "acme",
        1,
        NOW,
        NOW,
        [event.SerializeToString() for index, event in enumerate(events) if index not in problems],
        [(event, problems[index]) for index, event in enumerate(events) if index in problems],
        False,
        len(events) - len(problems),
        len(problems),
        (),
        (),
    )
    data = encode_batch(batch, "epoch", "")
    assert len(data) < 1 << 20
    assert len(batch_from_pb(usage_raw_pb2.AcceptedBatch.FromString(data), "").events) == len(batch.events)
    return len(batch.events)


def check_measured(measured: Measurement, events: UsageColumns) -> None:
    for reading in measured.readings:
        if reading.meter.meter_id == "amounts":
            for row, value in zip(reading.rows, reading.values, strict=True):
                assert number(events.properties[row]["amount"]) == Fraction(value)


def a_usage_event(rng: random.Random) -> usage_event_pb2.UsageEvent:
    """As a rule good, but for one or two fields."""
    event = usage_event_pb2.UsageEvent(
        event_id="1", source="gateway", event_type=rng.choice(("metered", "x")), customer_id="c"
    )
    event.event_time.seconds = NOW_NS // 10**9
    event.properties.update({"amount": rng.choice(NASTY_TEXTS) if rng.random() < 0.5 else "1", "user": "u"})
    for _ in range(rng.choice((0, 1, 1, 2))):
        match rng.randrange(4):
            case 0:
                name = rng.choice(("event_id", "source", "event_type", "customer_id"))
                setattr(event, name, rng.choice(NASTY_TEXTS))
            case 1:
                event.event_time.seconds, event.event_time.nanos = rng.choice(TIMES_S), rng.choice(NANOS)
            case 2:
                event.properties[rng.choice(NASTY_TEXTS)] = rng.choice(NASTY_TEXTS)
            case _:
                event.properties.update({f"p{index}": "" for index in range(rng.choice((30, 31, 40)))})
    return event


def half_mutated(
    make: Callable[[random.Random], bytes], words: Sequence[bytes], seed: int, count: int
) -> Iterator[bytes]:
    """Inputs of which one half is well-formed, with bad values, and the other one is not."""
    rng = random.Random(seed)
    made = [make(rng) for _ in range(count // 2)]
    yield from made
    yield from mutated(made, words, any_byte, seed, count - len(made))


PROTOBUF_WORDS = [bytes((tag << 3 | kind,)) for tag in range(1, 9) for kind in (0, 1, 2, 5)] + [
    b"\xff" * 10,
    b"\x80\x80\x80\x80\x10",
    b"\xed\xa0\x80",
    b"\x00",
]


def check_events(seed: int, count: int) -> int:
    accepted = 0

    def make(rng: random.Random) -> bytes:
        events = [a_usage_event(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))]
        return pb.IngestEventsRequest(events=events, ack_level=rng.choice(LEVELS)).SerializeToString()

    for data in half_mutated(make, PROTOBUF_WORDS, seed, count):
        try:
            request = pb.IngestEventsRequest.FromString(data)
            check_batch(request.events, request.ByteSize())
            check_level(request.ack_level)
        except (DecodeError, InvalidInput):
            continue
        accepted += take(list(request.events), {})
    return accepted


def a_cloud_event(rng: random.Random) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": "1",
        "source": "/g",
        "type": rng.choice(("metered", "x")),
        "subject": "c",
        "time": f"{NOW:%Y-%m-%dT%H:%M:%SZ}",
        "data": {"amount": "1", "user": "u"},
    }
    values: tuple[Any, ...] = (
        *NASTY_TEXTS,
        None,
        True,
        7,
        -0.5,
        1e300,
        [],
        {},
        {"a": 1},
        "2026-02-30T00:00:00Z",
        NOW.isoformat(),
    )
    for _ in range(rng.choice((0, 1, 1, 2))):
        match rng.randrange(4):
            case 0:
                event[rng.choice((*event, "datacontenttype", "ext", "Ext", "data_base64"))] = rng.choice(values)
            case 1:
                event["data"] = {rng.choice(NASTY_TEXTS): rng.choice(values), "amount": rng.choice(values), "user": "u"}
            case 2:
                event.pop(rng.choice(list(event)))
            case _:
                encoded = json.dumps(event.pop("data", None)).encode()
                event["data_base64"] = base64.b64encode(encoded).decode()
    return event


def check_json(seed: int, count: int) -> int:
    accepted = 0

    def make(rng: random.Random) -> bytes:
        events = [a_cloud_event(rng) for _ in range(rng.choice((1, 1, 2)))]
        return json.dumps(events[0] if len(events) == 1 else events, ensure_ascii=rng.random() < 0.5).encode()

    words = [word.encode() for word in ("null", "NaN", "1e99", "{}", "[", '"id":', '"id":"2",', "\\ud800", "\\u0000")]
    for data in half_mutated(make, words, seed, count):
        accepted += take_cloud_events(pb.IngestCloudEventsRequest(json=data))
    return accepted


def check_protobuf(seed: int, count: int) -> int:
    accepted = 0

    def make(rng: random.Random) -> bytes:
        content = a_cloud_event(rng)
        event = cloud_event_pb2.CloudEvent()
        for name, value in content.items():
            text = value if isinstance(value, str) else json.dumps(value)
            match name:
                case "id" | "source" | "type":
                    setattr(event, name, text)
                case "data":
                    event.text_data = text
                case "data_base64":
                    event.binary_data = text.encode()
                case "specversion" if rng.random() < 0.95:
                    event.spec_version = text
                case "time" if rng.random() < 0.3:
                    instant = event.attributes["time"].ce_timestamp
                    instant.seconds, instant.nanos = rng.choice(TIMES_S), rng.choice(NANOS)
                case _:
                    event.attributes[name].ce_string = text
        if rng.random() < 0.5:
            return pb.IngestCloudEventsRequest(event=event).SerializeToString()
        batch = cloud_event_pb2.CloudEventBatch(events=[event] * rng.choice((0, 1, 2)))
        return pb.IngestCloudEventsRequest(batch=batch).SerializeToString()

    for data in half_mutated(make, PROTOBUF_WORDS, seed, count):
        try:
            request = pb.IngestCloudEventsRequest.FromString(data)
        except DecodeError:
            continue
        accepted += take_cloud_events(request)
    return accepted


def take_cloud_events(request: pb.IngestCloudEventsRequest) -> int:
    try:
        batch = map_cloud_events(request)
    except InvalidInput:
        return 0
    return take(batch.events, batch.problems)


TYPES = ("", "text/plain", "application/json", "application/cloudevents+json", "application/cloudevents+protobuf")


def check_messages(seed: int, count: int) -> int:
    accepted = 0
    rng = random.Random(seed)

    def make(made: random.Random) -> bytes:
        return json.dumps(a_cloud_event(made).get("data", {})).encode()

    for data in half_mutated(make, [b"{", b'"'], seed, count):
        attributes = {name: value for name, value in a_cloud_event(rng).items() if isinstance(value, str)}
        headers = {f"ce-{name}": value for name, value in attributes.items()}
        if rng.random() < 0.1:
            name = rng.choice(("ce-data", "CE-ID", "ce-", "ce-time", "ce-id"))
            headers[name] = rng.choice(("%ff", "%", "\ufffd", ""))
        if rng.random() < 0.2:
            headers["Content-Type"] = rng.choice(TYPES)
        batch = read_message(headers, data)
        assert batch.events
        accepted += take(batch.events, batch.problems)
    return accepted


class NoRecording:
    """RecordUsage without a database: everything is new."""

    async def __call__(self, queued: Sequence[QueuedBatch], markers: Sequence[QueuedMarker] = ()) -> ChunkReport:
        outcomes = []
        for item in queued:
            batch = item.batch
            assert all((batch.tenant_id, batch.acceptor_epoch, batch.batch_number > 0))
            assert len(batch.events) + len(batch.rejected) <= 1_000
            assert all(0 < abs(time_ns) < 1 << 63 for time_ns in batch.events.times_ns)
            assert min(batch.accepted_total, batch.rejected_total) >= 0
            recording = RecordingBatch.start(batch, 1, METERS)
            recording.decide(set(range(len(batch.events))) - recording.measurement.problems.keys(), {})
            assert len(recording.measured_texts()) == len(batch.events)
            assert len(recording.digest()) == 32
            outcome_to_pb(recording.outcome)
            outcomes.append(recording.outcome)
        return ChunkReport(outcomes, dict.fromkeys(Fate, 0))


class NoConnection:
    async def publish(self, subject: str, payload: bytes) -> None:
        assert all((subject, payload))


def at_once(work: Coroutine[object, object, None]) -> None:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def check_raw(seed: int, count: int) -> int:
    accepted = 0

    def make(rng: random.Random) -> bytes:
        batch = usage_raw_pb2.AcceptedBatch(
            tenant_id=rng.choice((*("acme",) * 9, "beta", "")),
            acceptor_epoch=rng.choice((*("e",) * 9, "")),
            batch_number=rng.choice((1, 2, 3, 4, 5, 6, 7, 0, -1, (1 << 63) - 1)),
            events=[a_usage_event(rng) for _ in range(rng.choice((0, 1, 2)))],
            accepted_total=rng.choice((*(1,) * 9, -1)),
            abandoned_batch_numbers=rng.choice(((), (), (), (), (1,), (-5,))),
            reply_subject=rng.choice(("", "_INBOX.x")),
        )
        for time in (batch.received_time, batch.accepted_time):
            time.seconds, time.nanos = NOW_NS // 10**9, rng.choice((*(0,) * 20, *NANOS))
        return batch.SerializeToString()

    recorder = UsageRecorder(
        cast(RecordUsage, NoRecording()), cast(Client, NoConnection()), lambda: NOW, lambda _lag_s: None
    )
    for index, data in enumerate(half_mutated(make, PROTOBUF_WORDS, seed, count)):
        subject = "usage.marker" if index % 16 == 0 else "usage.raw.acme"
        delivery = Delivery(subject, data, {"traceparent": "x"}, "", "USAGE_RAW", 1, 1, NOW)
        batch_of(delivery)
        assert tenant_of(delivery)
        try:
            at_once(recorder([delivery]))
            accepted += 1
        except UnreadableMessage:
            continue
    return accepted


EXPRESSIONS = [
    "input_tokens + output_tokens * 4",
    "if(size > 10 and not (kind == 'x'), size / 3, -size)",
    "min(a, b, 1.5) - max(a, 0) + abs(-b)",
    "round(a, 2) + ceil(b) + floor(event.properties.c)",
    "event.timestamp",
    "(" * 19 + "a" + ")" * 19,
    "a+" * 20 + "a",
]
EXPRESSION_WORDS = [
    *("if(", "min(", "concat(", "round(", "and", "or ", "not ", "==", "<=", "'", '"', "1e5", "0.", "..", "9" * 25),
    *("event.type", "event.x", ",", "((", "))", "-", "\t", "\x00", "/ 0"),
]


def check_expressions(seed: int, count: int) -> int:
    accepted = 0
    columns = {"a": [Decimal(1), Decimal("-0.000000000001")], "b": [Decimal(0), Decimal("9" * 20)]}
    for text in mutated(EXPRESSIONS, EXPRESSION_WORDS, any_character, seed, count):
        try:
            expression = compile_expression(text)
        except ExpressionRejected:
            continue
        accepted += 1
        assert len(text) <= 500
        outside = "".join(part for index, part in enumerate(_split_texts(text)) if index % 2 == 0)
        assert outside.count("(") == outside.count(")")
        assert not set(outside) - set("+-*/(),<>=!._ \t\r\n") - _WORD
        try:
            values = expression.evaluate_columns(
                {name: columns.get(name, columns["a"]) for name in expression.properties}, 2
            )
        except (EvaluationFailed, ValueError):  # It reads texts, or something of the event.
            continue
        assert all(value.is_finite() and abs(value) < 10**40 for value in values)
    return accepted


_WORD = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def _split_texts(text: str) -> list[str]:
    """What is outside and inside of quotes, in turns."""
    parts, quote = [""], ""
    for character in text:
        if (quote and character == quote) or (not quote and character in "'\""):
            quote = "" if quote else character
            parts.append("")
        else:
            parts[-1] += character
    return parts


METER_FILES = [
    "meter_id: a\nevent_type: t\naggregation: sum\nexpression: v * 2\n"
    "filters: [{property: p, operator: in, values: [x, y]}]\n",
    "meter_id: b\nevent_type: t\naggregation: percentile\npercentile: 95\nexpression: v\n"
    "buckets: {length: 5_minutes, aggregation: max, time_zone: Europe/Berlin, empty: skip}\n",
    "meter_id: c\nevent_type: t\naggregation: unique_count\nexpression: u\noperation_property: o\n"
    "carry_over: true\nrounding: {function: ceil, digits: -2}\nmultiplier: 0.1\nempty: null\n",
    "{meter_id: d, event_type: t, aggregation: weighted_sum, expression: v, level_unit: hour,\n"
    " unit: GB, unit_property: k}\n"
    "---\n{meter_id: e, event_type: t, aggregation: count, group_by: [p, q], exclude: [[{property: p, value: x}]]}\n",
]
METER_WORDS = [
    *(
        "---\n",
        "&a ",
        "*a",
        "[",
        "{",
        "? ",
        ": ",
        "!!python/object:os.system ",
        "!!timestamp ",
        "|\n",
        "\t",
        "null",
        "~",
    ),
    *("1e9", "-1", "99999999999", "meter_id: a\n", "digits: ", "percentile: 100.01", "<<: ", "%YAML 9.9\n", "\x00"),
]


def check_meter_files(seed: int, count: int) -> int:
    accepted = 0
    for text in mutated(METER_FILES, METER_WORDS, any_character, seed, count):
        try:
            messages = parse_meters(text)
        except MeterFileError:
            continue
        for message in messages:
            try:
                meter = meter_from_pb(message)
            except InvalidInput:
                continue
            if meter_violations(meter):
                continue
            accepted += 1
            assert set(meter.meter_id) <= _WORD | set("_.:@-")
            assert 1 <= len(meter.meter_id) <= 64
            assert is_name(meter.event_type, 128)
            assert all(is_name(key, 64) for key in meter.group_by)
            assert len(meter.group_by) <= 8
            assert meter.compiled is not None or meter.event_aggregation is Aggregation.COUNT
            stored: dict[str, Any] = {
                "meter_id": meter.meter_id,
                "display_name": meter.display_name,
                "description": meter.description,
                "event_type": meter.event_type,
                "aggregation": meter.aggregation,
                "expression": meter.expression,
                "filters": filters_from_json(json.loads(json.dumps(filters_to_json(meter.filters)))),
                "group_by": meter.group_by,
                "unit": meter.unit,
            } | options_from_json(json.loads(json.dumps(options_to_json(meter))))
            assert Meter(**stored) == meter
            assert meter_from_pb(meter_to_pb(meter)) == meter
    return accepted


TARGETS: dict[str, tuple[Check, int]] = {
    "events": (check_events, 300_000),
    "cloud events, json": (check_json, 190_000),
    "cloud events, protobuf": (check_protobuf, 190_000),
    "nats messages": (check_messages, 40_000),
    "raw batches": (check_raw, 150_000),
    "expressions": (check_expressions, 100_000),
    "meter files": (check_meter_files, 30_000),
}


def test_a_million_inputs_are_tried() -> None:
    assert sum(count for _, count in TARGETS.values()) == 1_000_000
    assert timedelta(days=34) == DoorPolicy().past_limit


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_a_decoder(name: str) -> None:
    check, count = TARGETS[name]
    assert check(1, count // 200) > count // 200 // 20


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_million_inputs_break_no_decoder(name: str) -> None:
    check, count = TARGETS[name]
    accepted = sum(check(1_000 + seed, CHUNK) for seed in range(count // CHUNK))
    assert accepted > count // 20
