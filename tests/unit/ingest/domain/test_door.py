"""What may pass the door."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.ids import check_text
from services.ingest.domain.door import DoorPolicy, door_problems, to_ns
from services.ingest.domain.usage_batch import MAX_SEQUENCE, UsageColumns

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def one_event(time_ns: int | None = None, properties: dict[str, str] | None = None, **texts: str) -> UsageColumns:
    """A good event but for what is given."""
    given = {"event_id": "1", "source": "gateway", "event_type": "llm.request", "customer_id": "cust-01"} | texts
    return UsageColumns(
        [given["event_id"]],
        [given["source"]],
        [given["event_type"]],
        [given["customer_id"]],
        [to_ns(NOW) if time_ns is None else time_ns],
        [properties or {}],
    )


def problem_of(events: UsageColumns, policy: DoorPolicy | None = None) -> tuple[str, str] | None:
    problem = door_problems(events, policy or DoorPolicy(), NOW).get(0)
    return None if problem is None else (problem.field, problem.reason)


class TestTexts:
    @pytest.mark.parametrize("field", ["event_id", "source", "event_type", "customer_id"])
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "REQUIRED"),
            ("x" * 129, "TOO_LONG"),
            ("a\x00b", "CONTROL_CHARACTER"),
            ("a\nb", "CONTROL_CHARACTER"),
            ("a\x1fb", "CONTROL_CHARACTER"),
            (" a", "SURROUNDING_BLANK"),
        ],
    )
    def test_are_refused(self, field: str, text: str, reason: str) -> None:
        assert problem_of(one_event(None, None, **{field: text})) == (field, reason)

    @pytest.mark.parametrize("text", ["x", "x" * 128, "😀" * 128, "with blank", "quote \" and \\ and ' and ,"])
    def test_pass(self, text: str) -> None:
        assert problem_of(one_event(event_id=text, source=text, event_type=text, customer_id=text)) is None

    def test_only_the_bad_event_of_a_batch_is_refused(self) -> None:
        ns = to_ns(NOW)
        events = UsageColumns(["1", "", "3"], ["a"] * 3, ["t"] * 3, ["c", "c", "\n"], [ns] * 3, [{}] * 3)

        problems = door_problems(events, DoorPolicy(), NOW)

        assert {index: problem.field for index, problem in problems.items()} == {1: "event_id", 2: "customer_id"}


class TestTimes:
    @pytest.mark.parametrize(
        ("at", "reason"),
        [
            (NOW - timedelta(days=34), None),
            (NOW - timedelta(days=34, microseconds=1), "TOO_OLD"),
            (NOW + timedelta(hours=1), None),
            (NOW + timedelta(hours=1, microseconds=1), "IN_FUTURE"),
        ],
    )
    def test_by_default_lie_between_34_days_back_and_an_hour_ahead(self, at: datetime, reason: str | None) -> None:
        found = problem_of(one_event(time_ns=to_ns(at)))
        assert found == (("event_time", reason) if reason else None)

    @pytest.mark.parametrize(("time_ns", "reason"), [(0, "REQUIRED"), (-1, "TOO_OLD"), (1 << 70, "IN_FUTURE")])
    def test_that_are_none(self, time_ns: int, reason: str) -> None:
        assert problem_of(one_event(time_ns=time_ns)) == ("event_time", reason)

    def test_follow_the_tenants_own_limits(self) -> None:
        policy = DoorPolicy(past_limit=timedelta(minutes=1), future_limit=timedelta(0))
        assert problem_of(one_event(time_ns=to_ns(NOW)), policy) is None
        assert problem_of(one_event(time_ns=to_ns(NOW) + 1), policy) == ("event_time", "IN_FUTURE")
        assert problem_of(one_event(time_ns=to_ns(NOW) - 60_000_000_001), policy) == ("event_time", "TOO_OLD")


class TestCustomers:
    def test_unknown_ones_are_refused_only_by_tenants_that_want_it(self) -> None:
        strict = DoorPolicy(known_customers={"cust-02"})

        assert problem_of(one_event()) is None
        assert problem_of(one_event(), strict) == ("customer_id", "UNKNOWN_CUSTOMER")
        assert problem_of(one_event(customer_id="cust-02"), strict) is None


_TEXTS = st.one_of(
    st.sampled_from(
        ["a", "b c", " a", "a ", "", "\u3000a", "a\u200bb", "a\x1fb", "\x00", "\u00e9", "\U0001f600", "x" * 129, "\x7f"]
    ),
    st.text(max_size=3),
)
_ROWS = st.tuples(_TEXTS, _TEXTS, st.dictionaries(_TEXTS, st.one_of(_TEXTS, st.just("v" * 257)), max_size=3))


class TestTogether:
    @settings(max_examples=300)
    @given(st.lists(_ROWS, min_size=1, max_size=6))
    def test_events_are_judged_as_each_would_be_alone(self, rows: list[tuple[str, str, dict[str, str]]]) -> None:
        count = len(rows)
        together = UsageColumns(
            [row[0] for row in rows],
            ["a"] * count,
            ["t"] * count,
            [row[1] for row in rows],
            [to_ns(NOW)] * count,
            [row[2] for row in rows],
        )
        alone = [
            one_event(event_id=row[0], source="a", event_type="t", customer_id=row[1], properties=row[2])
            for row in rows
        ]

        problems = door_problems(together, DoorPolicy(), NOW)

        assert [problems.get(index) for index in range(count)] == [
            door_problems(event, DoorPolicy(), NOW).get(0) for event in alone
        ]
        for (event_id, customer_id, _), problem in zip(
            rows, (problems.get(index) for index in range(count)), strict=True
        ):
            first = check_text(event_id, "event_id", 128) or check_text(customer_id, "customer_id", 128)
            if first is not None:
                assert problem == first


class TestProperties:
    @pytest.mark.parametrize(
        ("properties", "field", "reason"),
        [
            ({f"key-{number}": "" for number in range(33)}, "properties", "TOO_MANY"),
            ({"": "x"}, "properties.", "REQUIRED"),
            ({"k" * 65: "x"}, f"properties.{'k' * 64}", "TOO_LONG"),
            ({"a\x00b": "x"}, "properties.a?b", "CONTROL_CHARACTER"),
            ({"key": "v" * 257}, "properties.key", "TOO_LONG"),
            ({"key": "a\x00"}, "properties.key", "CONTROL_CHARACTER"),
        ],
    )
    def test_are_refused(self, properties: dict[str, str], field: str, reason: str) -> None:
        assert problem_of(one_event(properties=properties)) == (field, reason)

    def test_pass_at_their_limits(self) -> None:
        assert problem_of(one_event(properties={f"{number:064}": "v" * 256 for number in range(32)})) is None
        assert problem_of(one_event(properties={"note": "line\nand\ttab", "empty": ""})) is None

    def test_a_good_key_does_not_excuse_a_bad_value_of_a_later_event(self) -> None:
        ns = to_ns(NOW)
        events = UsageColumns(["1", "2"], ["a"] * 2, ["t"] * 2, ["c"] * 2, [ns] * 2, [{"k": "v"}, {"k": "v" * 257}])

        assert set(door_problems(events, DoorPolicy(), NOW)) == {1}


class TestSequences:
    @pytest.mark.parametrize(
        ("sequence", "epoch", "problem"),
        [
            (0, "", None),
            (1, "", None),
            (MAX_SEQUENCE, "x" * 128, None),
            (-1, "", ("sequence", "OUT_OF_RANGE")),
            (MAX_SEQUENCE + 1, "", ("sequence", "OUT_OF_RANGE")),
            (1, "x" * 129, ("sequence_epoch", "TOO_LONG")),
            (1, "a\x1fb", ("sequence_epoch", "CONTROL_CHARACTER")),
        ],
        ids=str,
    )
    def test_are_numbers_of_a_life(self, sequence: int, epoch: str, problem: tuple[str, str] | None) -> None:
        assert problem_of(replace(one_event(), sequences=[sequence], sequence_epochs=[epoch])) == problem
