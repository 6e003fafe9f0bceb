"""What CloudEvents mean: one mapping for JSON and protobuf, and nothing settled in silence."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

import steelyard
from steelyard.cloud_events import (
    CloudEventsRefused,
    usage_event_from_protobuf,
    usage_events_from_json,
    usage_events_from_protobuf_batch,
)
from steelyard.cloud_events_forms import map_json, map_protobuf
from steelyard.cloud_events_json import decode_json
from steelyard.cloudevents.v1 import cloud_event_pb2

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/gateway",
    "type": "llm.request",
    "subject": "cust-1",
    "time": "2026-01-31T23:59:59Z",
    "datacontenttype": "application/json",
    "data": {"input": 812, "region": "eu"},
}
PRINTABLE = st.characters(exclude_categories=["C"])


def json_with(**changes: Any) -> str:
    """The event as JSON with some members changed; `...` leaves one out."""
    return json.dumps({name: value for name, value in (EVENT | changes).items() if value is not ...})


def problem_of(text: str) -> tuple[str, str] | None:
    problem = map_json(decode_json(text)).problem
    return (problem.field, problem.reason) if problem else None


def properties_of(text: str) -> dict[str, str]:
    mapped = map_json(decode_json(text))
    assert mapped.problem is None, mapped.problem
    return dict(mapped.event.properties)


def a_message(**fields: Any) -> cloud_event_pb2.CloudEvent:
    """The event as protobuf, its data as text; `...` leaves a field out."""
    known: dict[str, Any] = {"id": "e1", "source": "/gateway", "spec_version": "1.0", "type": "llm.request"}
    known["text_data"] = '{"input": 812, "region": "eu"}'
    message = cloud_event_pb2.CloudEvent(**{k: v for k, v in (known | fields).items() if v is not ...})
    message.attributes["subject"].ce_string = "cust-1"
    message.attributes["time"].ce_timestamp.FromJsonString("2026-01-31T23:59:59Z")
    message.attributes["datacontenttype"].ce_string = "application/json"
    return message


def problem_in(message: cloud_event_pb2.CloudEvent) -> tuple[str, str] | None:
    problem = map_protobuf(message).problem
    return (problem.field, problem.reason) if problem else None


class TestMapping:
    def test_of_every_attribute(self) -> None:
        [event] = usage_events_from_json(json_with())
        assert event == steelyard.UsageEvent(
            event_id="e1",
            source="/gateway",
            event_type="llm.request",
            customer_id="cust-1",
            event_time=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC),
            properties={"input": "812", "region": "eu"},
        )

    @pytest.mark.parametrize(
        ("time", "seconds", "nanos"),
        [
            ("2026-01-31T23:59:59Z", 1769903999, 0),
            ("2026-01-31t23:59:59.123456789z", 1769903999, 123456789),
            ("2026-02-01T00:59:59.5+01:00", 1769903999, 500000000),
            ("2026-01-31T18:14:59.000000001-05:45", 1769903999, 1),
            ("1969-12-31T23:59:59.9Z", -1, 900000000),
            ("0001-01-01T00:00:00Z", -62135596800, 0),
            ("9999-12-31T23:59:59.999999999Z", 253402300799, 999999999),
        ],
    )
    def test_of_time_to_the_nanosecond(self, time: str, seconds: int, nanos: int) -> None:
        mapped = map_json(decode_json(json_with(time=time)))
        assert (mapped.problem, mapped.event.event_time.seconds) == (None, seconds)
        assert mapped.event.event_time.nanos == nanos
        [event] = usage_events_from_json(json_with(time=time))
        assert event.to_pb("") == mapped.event

    def test_of_extensions_and_what_is_no_property(self) -> None:
        text = json_with(
            region2="eu", on=True, n=-7, traceparent="00-1-2-00", tracestate="a=b", dataschema="https://x/y", gone=None
        )
        assert properties_of(text) == {"input": "812", "region": "eu", "region2": "eu", "on": "true", "n": "-7"}

    @pytest.mark.parametrize("data", [..., None, {}], ids=["absent", "null", "empty"])
    def test_of_an_event_without_data(self, data: object) -> None:
        assert properties_of(json_with(data=data, tier="gold")) == {"tier": "gold"}

    @pytest.mark.parametrize(
        "number",
        ["1.10", "1e3", "1E+400", "-0", "0.1", "123456789012345678901234567890.000000000000000001", "9" * 5000],
    )
    def test_of_numbers_as_they_are_written(self, number: str) -> None:
        text = json_with().replace("812", number)
        assert properties_of(text)["input"] == number
        assert map_protobuf(a_message(text_data=f'{{"input": {number}}}')).event.properties["input"] == number

    @pytest.mark.parametrize("media_type", ["application/json", "TEXT/JSON", "application/x+json; charset=utf-8", ...])
    def test_of_data_in_base64(self, media_type: object) -> None:
        data = base64.b64encode(b'{"input": 1.10}').decode()
        assert properties_of(json_with(data=..., data_base64=data, datacontenttype=media_type)) == {"input": "1.10"}

    @given(
        st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?", fullmatch=True),
        st.sampled_from(["data", "data_base64", "text_data", "binary_data"]),
    )
    def test_keeps_every_digit_of_every_number(self, number: str, form: str) -> None:
        content = f'{{"n": {number}}}'
        if form == "data":
            mapped = map_json(decode_json(json_with(data=...)[:-1] + f', "data": {content}}}'))
        elif form == "data_base64":
            mapped = map_json(decode_json(json_with(data=..., data_base64=base64.b64encode(content.encode()).decode())))
        else:
            mapped = map_protobuf(a_message(**{"text_data": ...} | {form: _as(form, content)}))
        assert (mapped.problem, dict(mapped.event.properties)) == (None, {"n": number})


def _as(form: str, content: str) -> str | bytes:
    return content if form == "text_data" else content.encode()


class TestBothForms:
    @given(
        texts=st.lists(
            st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8), min_size=4, max_size=4
        ),
        data=st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.text(max_size=5) | st.booleans()
        ),
        extensions=st.dictionaries(
            st.from_regex(r"[a-z0-9]{21,22}", fullmatch=True),
            st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(PRINTABLE) | st.binary(),
            max_size=3,
        ),
        at=st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)),  # noqa: DTZ001 - made UTC below
    )
    def test_mean_the_same(
        self, texts: list[str], data: dict[str, str | bool], extensions: dict[str, Any], at: datetime
    ) -> None:
        time = f"{at.isoformat()}Z"
        message = cloud_event_pb2.CloudEvent(
            id=texts[0], source=texts[1], type=texts[2], spec_version="1.0", text_data=json.dumps(data)
        )
        message.attributes["subject"].ce_string = texts[3]
        message.attributes["time"].ce_timestamp.FromDatetime(at)
        event = {"id": texts[0], "source": texts[1], "type": texts[2], "subject": texts[3], "specversion": "1.0"}
        for name, value in extensions.items():
            field = {bool: "ce_boolean", int: "ce_integer", str: "ce_string", bytes: "ce_bytes"}[type(value)]
            setattr(message.attributes[name], field, value)
            if isinstance(value, bytes):
                extensions[name] = base64.b64encode(value).decode()
        of_json = map_json(decode_json(json.dumps({**event, **extensions, "time": time, "data": data})))
        assert of_json == map_protobuf(message)

    def test_are_read_as_one_event_and_as_batches(self) -> None:
        [one] = usage_events_from_json(json_with())
        assert usage_events_from_json(f"\ufeff[{json_with()},{json_with()}]".encode()) == [one, one]
        assert usage_events_from_json("[]") == []
        message = a_message()
        assert usage_event_from_protobuf(message.SerializeToString()) == one
        batch = cloud_event_pb2.CloudEventBatch(events=[message, message])
        assert usage_events_from_protobuf_batch(batch.SerializeToString()) == [one, one]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "field", "reason"),
        [
            ({"id": ...}, "id", "REQUIRED"),
            ({"id": ""}, "id", "REQUIRED"),
            ({"id": 5}, "id", "WRONG_TYPE"),
            ({"id": "\ud800"}, "id", "NOT_UNICODE"),
            ({"source": None}, "source", "REQUIRED"),
            ({"type": ...}, "type", "REQUIRED"),
            ({"subject": ...}, "subject", "REQUIRED"),
            ({"subject": ["c"]}, "subject", "WRONG_TYPE"),
            ({"specversion": "0.3"}, "specversion", "SPEC_VERSION_UNSUPPORTED"),
            ({"specversion": ...}, "specversion", "SPEC_VERSION_UNSUPPORTED"),
            ({"specversion": 1.0}, "specversion", "WRONG_TYPE"),
            ({"time": ...}, "time", "REQUIRED"),
            ({"time": None}, "time", "REQUIRED"),
            ({"time": 1769903999}, "time", "WRONG_TYPE"),
            ({"time": "2026-01-31T23:59:59"}, "time", "NOT_AN_INSTANT"),
            ({"time": "2026-01-31T23:59:59.1234567890Z"}, "time", "NOT_AN_INSTANT"),
            ({"time": "2026-02-30T00:00:00Z"}, "time", "NOT_AN_INSTANT"),
            ({"time": "2026-01-31T23:59:60Z"}, "time", "NOT_AN_INSTANT"),
            ({"time": "0001-01-01T00:00:00+01:00"}, "time", "NOT_AN_INSTANT"),
            ({"time": "9999-12-31T23:59:59-01:00"}, "time", "NOT_AN_INSTANT"),
            ({"time": "2026-01-31T23:59:59+99:00"}, "time", "NOT_AN_INSTANT"),
            ({"time": "\N{FULLWIDTH DIGIT TWO}026-01-31T23:59:59Z"}, "time", "NOT_AN_INSTANT"),
            ({"Region": "eu"}, "Region", "INVALID_ATTRIBUTE_NAME"),
            ({"my_name": "eu"}, "my_name", "INVALID_ATTRIBUTE_NAME"),
            ({"\u0661": "eu"}, "\u0661", "INVALID_ATTRIBUTE_NAME"),
            ({"": "eu"}, "", "INVALID_ATTRIBUTE_NAME"),
            ({"amount": 1.5}, "amount", "NOT_AN_INTEGER"),
            ({"amount": 2**31}, "amount", "NOT_AN_INTEGER"),
            ({"amount": -(2**31) - 1}, "amount", "NOT_AN_INTEGER"),
            ({"amount": 10**2000}, "amount", "NOT_AN_INTEGER"),
            ({"amount": float("nan")}, "amount", "WRONG_TYPE"),
            ({"tags": ["a"]}, "tags", "WRONG_TYPE"),
            ({"tags": {}}, "tags", "WRONG_TYPE"),
            ({"tags": "a\x00"}, "tags", "CONTROL_CHARACTER"),
            ({"tags": "\ud800"}, "tags", "CONTROL_CHARACTER"),
            ({"region": "us"}, "data.region", "NAME_AMBIGUOUS"),
            ({"data": {"a": None}}, "data.a", "NOT_A_PROPERTY"),
            ({"data": {"a": [1]}}, "data.a", "NOT_A_PROPERTY"),
            ({"data": {"a": {"b": 1}}}, "data.a", "NOT_A_PROPERTY"),
            ({"data": {"a": float("inf")}}, "data.a", "NOT_A_PROPERTY"),
            ({"data": {"a": "\udfff"}}, "data", "NOT_UNICODE"),
            ({"data": [1]}, "data", "NOT_AN_OBJECT"),
            ({"data": 5}, "data", "NOT_AN_OBJECT"),
            ({"data": '{"a": 1}'}, "data", "NOT_AN_OBJECT"),
            ({"data": True}, "data", "NOT_AN_OBJECT"),
            ({"datacontenttype": "text/csv"}, "datacontenttype", "CONTENT_TYPE_UNSUPPORTED"),
            ({"datacontenttype": "application/jsonl"}, "datacontenttype", "CONTENT_TYPE_UNSUPPORTED"),
            ({"datacontenttype": "json"}, "datacontenttype", "CONTENT_TYPE_UNSUPPORTED"),
            ({"datacontenttype": 1}, "datacontenttype", "WRONG_TYPE"),
            ({"data_base64": "e30="}, "data_base64", "DATA_AMBIGUOUS"),
            ({"data": ..., "data_base64": "e30"}, "data_base64", "NOT_BASE64"),
            ({"data": ..., "data_base64": "\xe9"}, "data_base64", "NOT_BASE64"),
            ({"data": ..., "data_base64": {}}, "data_base64", "WRONG_TYPE"),
            ({"data": ..., "data_base64": "/w=="}, "data_base64", "NOT_JSON"),
            ({"data": ..., "data_base64": "ew=="}, "data_base64", "NOT_JSON"),
        ],
    )
    def test_is_named(self, changes: dict[str, Any], field: str, reason: str) -> None:
        assert problem_of(json_with(**changes)) == (field, reason)

    def test_names_that_are_there_twice(self) -> None:
        assert problem_of(json_with()[:-1] + ', "id": "e2"}') == ("id", "NAME_REPEATED")
        assert problem_of(json_with()[:-1] + ', "tier": "a", "tier": "a"}') == ("tier", "NAME_REPEATED")
        assert problem_of(json_with().replace('"region"', '"input"')) == ("data.input", "NAME_REPEATED")

    def test_what_is_known_of_its_identity_is_kept(self) -> None:
        event = map_json(decode_json(json_with(time="now"))).event
        assert (event.event_id, event.source, event.customer_id) == ("e1", "/gateway", "cust-1")

    @pytest.mark.parametrize("value", ["5", "null", '"e"', "[]", "NaN"])
    def test_what_is_no_object(self, value: str) -> None:
        assert problem_of(value) == ("", "NOT_AN_OBJECT")

    def test_long_and_broken_names_are_shown_short(self) -> None:
        problem = map_json(decode_json(json_with(data={"\ud800" * 1_000: None}))).problem
        assert problem is not None
        assert problem.field == "data." + r"\ud800" * 64

    def test_values_of_protobuf(self) -> None:
        assert problem_in(a_message(text_data=..., proto_data=AnyMessage())) == (
            "proto_data",
            "PROTO_DATA_UNSUPPORTED",
        )
        assert problem_in(a_message(text_data="{")) == ("text_data", "NOT_JSON")
        assert problem_in(a_message(text_data="[" * 100_000)) == ("text_data", "NOT_JSON")
        assert problem_in(a_message(text_data=..., binary_data=b"\xff")) == ("binary_data", "NOT_JSON")
        assert problem_in(a_message(text_data=..., binary_data=b"")) == ("binary_data", "NOT_JSON")

    def test_attributes_of_protobuf(self) -> None:
        for name, reason in [("id", "NAME_REPEATED"), ("data", "NAME_REPEATED"), ("Tier", "INVALID_ATTRIBUTE_NAME")]:
            message = a_message()
            message.attributes[name].ce_string = "x"
            assert problem_in(message) == (name, reason)
        message = a_message()
        message.attributes["time"].ce_timestamp.nanos = 1_000_000_000
        assert problem_in(message) == ("time", "NOT_AN_INSTANT")
        message = a_message()
        message.attributes["later"].SetInParent()
        assert problem_in(message) == ("later", "WRONG_TYPE")
        message = a_message()
        message.attributes["subject"].ce_integer = 5
        assert problem_in(message) == ("subject", "WRONG_TYPE")

    @pytest.mark.parametrize("content", ["5", "{", b"\xff", "[" * 100_000, '{"a": 1} {}'], ids=range(5))
    def test_content_that_is_none(self, content: str | bytes) -> None:
        with pytest.raises(CloudEventsRefused) as refused:
            usage_events_from_json(content)
        assert (refused.value.reason, refused.value.violations) == ("NOT_CLOUD_EVENTS", ())
        with pytest.raises(CloudEventsRefused):
            usage_event_from_protobuf(b"\xff")
        with pytest.raises(CloudEventsRefused):
            usage_events_from_protobuf_batch(b"\xff")

    def test_every_event_of_a_batch_is_named(self) -> None:
        with pytest.raises(CloudEventsRefused) as refused:
            usage_events_from_json(f"[{json_with(id=...)}, {json_with()}, 5]")
        assert [violation.field for violation in refused.value.violations] == ["[0].id", "[2]"]


class TestSequence:
    """The Sequence extension of CloudEvents 1.0."""

    def test_of_type_integer_is_the_number_and_no_property(self) -> None:
        [event] = usage_events_from_json(json_with(sequence="17", sequencetype="Integer"))

        assert (event.sequence, event.to_pb("").sequence) == (17, 17)
        assert event.properties == {"input": "812", "region": "eu"}

    def test_is_kept_with_an_instant_of_nanoseconds(self) -> None:
        text = json_with(sequence="17", sequencetype="Integer", time="2026-01-31T23:59:59.123456789Z")

        assert usage_events_from_json(text)[0].to_pb("").sequence == 17

    def test_in_protobuf(self) -> None:
        message = a_message()
        message.attributes["sequence"].ce_string = "17"
        message.attributes["sequencetype"].ce_string = "Integer"

        assert usage_event_from_protobuf(message.SerializeToString()).sequence == 17

    def test_of_another_type_is_a_property_as_ever(self) -> None:
        assert properties_of(json_with(sequence="17"))["sequence"] == "17"
        assert usage_events_from_json(json_with(sequence="17"))[0].sequence == 0

    @pytest.mark.parametrize("value", ["0", "-1", "2147483648", "1.0", "x", "", ..., True, "1" * 400], ids=str)
    def test_that_is_no_integer_is_refused(self, value: Any) -> None:
        assert problem_of(json_with(sequence=value, sequencetype="Integer")) == ("sequence", "NOT_A_SEQUENCE")
