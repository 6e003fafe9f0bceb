"""What becomes of each event that is to be corrected."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Violation
from services.ingest.domain.correction import (
    MAX_CORRECTIONS,
    NOTHING_KNOWN,
    CorrectionKind,
    CorrectionOutcome,
    CorrectionResult,
    KnownEvent,
    Proposal,
    decide_replacements,
    decide_voids,
    derived_event_id,
    key_violations,
    words_violations,
)
from services.ingest.domain.event_key import EventKey

RECORDED = KnownEvent(b"content", None, None)
VOIDED = KnownEvent(b"content", CorrectionKind.VOID, None)
AWAITED = KnownEvent(None, CorrectionKind.VOID, None)
PROBLEM = Violation("event.event_time", "IN_FUTURE", "must be earlier")
STATES = [NOTHING_KNOWN, RECORDED, VOIDED, AWAITED, KnownEvent(b"content", CorrectionKind.REPLACE, ("s", "2"))]


def said(results: Sequence[CorrectionResult]) -> list[str]:
    return [result.problem.reason if result.problem else str(result.outcome) for result in results]


def a_proposal(original: str, replacement: str, content: bytes = b"new", problem: Violation | None = None) -> Proposal:
    return Proposal(("s", original), ("s", replacement), content, problem)


class TestVoids:
    @pytest.mark.parametrize(
        ("known", "expected"),
        list(zip(STATES, ["waiting", "applied", "already", "already", "SUPERSEDED"], strict=True)),
        ids=["unknown", "recorded", "voided", "awaited", "superseded"],
    )
    def test_depend_on_what_is_known(self, known: KnownEvent, expected: str) -> None:
        assert said(decide_voids([("s", "1")], {("s", "1"): known})) == [expected]

    @given(
        st.dictionaries(st.tuples(st.just("s"), st.sampled_from("abcdef")), st.sampled_from(STATES), min_size=1),
        st.data(),
    )
    def test_each_event_is_voided_once_however_often_it_is_named(
        self, known: dict[EventKey, KnownEvent], data: st.DataObject
    ) -> None:
        keys = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=30))

        results = decide_voids(keys, known)

        done = [key for key, result in zip(keys, results, strict=True) if result.outcome in ("applied", "waiting")]
        assert len(done) == len(set(done))
        assert set(done) == {key for key in keys if known[key].kind is None}


class TestReplacements:
    @pytest.mark.parametrize(
        ("original", "event", "expected"),
        [
            (RECORDED, NOTHING_KNOWN, "applied"),
            (NOTHING_KNOWN, NOTHING_KNOWN, "UNKNOWN_EVENT"),
            (AWAITED, NOTHING_KNOWN, "VOIDED"),
            (VOIDED, NOTHING_KNOWN, "VOIDED"),
            (RECORDED, RECORDED, "EVENT_ID_TAKEN"),
            (RECORDED, VOIDED, "EVENT_ID_TAKEN"),
            (RECORDED, AWAITED, "EVENT_ID_VOIDED"),
            (KnownEvent(b"x", CorrectionKind.REPLACE, ("s", "2")), KnownEvent(b"new", None, None), "already"),
            (KnownEvent(b"x", CorrectionKind.REPLACE, ("s", "2")), KnownEvent(b"else", None, None), "SUPERSEDED"),
            (KnownEvent(b"x", CorrectionKind.REPLACE, ("s", "3")), KnownEvent(b"new", None, None), "SUPERSEDED"),
        ],
    )
    def test_depend_on_both_events(self, original: KnownEvent, event: KnownEvent, expected: str) -> None:
        known = {("s", "1"): original, ("s", "2"): event}
        assert said(decide_replacements([a_proposal("1", "2")], known)) == [expected]

    def test_of_what_may_not_be_recorded_are_not_looked_up(self) -> None:
        proposal = a_proposal("1", "\x00", problem=PROBLEM)
        assert said(decide_replacements([proposal], {("s", "1"): RECORDED})) == ["IN_FUTURE"]

    def test_in_one_request_count_once(self) -> None:
        known = {("s", name): RECORDED for name in "12"} | {("s", name): NOTHING_KNOWN for name in "abc"}
        proposals = [a_proposal(*pair) for pair in ("1a", "1a", "1b", "2a", "2b", "ac")]
        assert said(decide_replacements(proposals, known)) == [
            *("applied", "already", "SUPERSEDED", "EVENT_ID_TAKEN", "applied", "UNKNOWN_EVENT")
        ]

    def test_another_try_after_one_that_was_refused(self) -> None:
        known = {("s", "1"): RECORDED, ("s", "2"): NOTHING_KNOWN}
        proposals = [a_proposal("1", "2", problem=PROBLEM), a_proposal("1", "2")]
        assert said(decide_replacements(proposals, known)) == ["IN_FUTURE", "applied"]

    @given(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcdwxyz"), st.sampled_from([b"1", b"2"]))),
        st.fixed_dictionaries({("s", name): st.sampled_from(STATES) for name in "abcdwxyz"}),
    )
    def test_no_event_is_replaced_or_recorded_twice(
        self, wanted: list[tuple[str, str, bytes]], known: dict[EventKey, KnownEvent]
    ) -> None:
        proposals = [a_proposal(*item) for item in wanted]

        results = decide_replacements(proposals, known)

        done = [
            proposal
            for proposal, result in zip(proposals, results, strict=True)
            if result.outcome is CorrectionOutcome.APPLIED
        ]
        for keys in ([item.original for item in done], [item.replacement for item in done]):
            assert len(keys) == len(set(keys))
        assert all(known[item.original] == RECORDED and known[item.replacement] == NOTHING_KNOWN for item in done)


class TestDerivedIds:
    def test_never_change(self) -> None:
        assert derived_event_id(("gateway", "1")) == "replacement-5e881a3b6f4d3b2ba5690656df56b4c5"

    @given(st.tuples(st.text(max_size=128), st.text(max_size=128)), st.tuples(st.text(), st.text()))
    def test_differ_and_fit(self, one: EventKey, other: EventKey) -> None:
        assert len(derived_event_id(one)) <= 128
        assert (derived_event_id(one) == derived_event_id(other)) == (one == other)


class TestRequests:
    def test_name_all_that_is_wrong(self) -> None:
        assert [violation.reason for violation in words_violations("", "a" * 129)] == ["REQUIRED", "TOO_LONG"]
        assert [v.field for v in key_violations([("s", "1"), ("", "")], "keys[{}]")] == [
            *("keys[1].source", "keys[1].event_id")
        ]

    @pytest.mark.parametrize("count", [0, MAX_CORRECTIONS + 1])
    def test_have_a_limit(self, count: int) -> None:
        [violation] = key_violations([("s", "1")] * count, "replacements[{}].original")
        assert (violation.field, violation.reason) == ("replacements", "WRONG_NUMBER")

    def test_at_the_limit_pass(self) -> None:
        assert key_violations([("s" * 128, "1" * 128)] * MAX_CORRECTIONS, "keys[{}]") == []
        assert words_violations("r" * 500, "a" * 128) == []
