"""Numbers of events: taken once each, kept by their events, without gaps."""

from __future__ import annotations

from dataclasses import replace

from steelyard import UsageEvent
from steelyard.numbering import Numbering


def events(count: int, source: str = "") -> list[UsageEvent]:
    return [UsageEvent("call", "cust-01", source=source) for _ in range(count)]


class TestNumbering:
    def test_counts_from_one_per_source(self) -> None:
        numbering = Numbering()
        first = numbering.numbered([*events(2), *events(1, "other")], "gateway")
        numbering.take(first, "gateway")
        second = numbering.numbered([*events(1), *events(1, "gateway"), *events(1, "other")], "gateway")

        assert [event.sequence for event in first + second] == [1, 2, 1, 3, 4, 2]
        assert len({event.sequence_epoch for event in first + second}) == 1

    def test_an_event_keeps_its_number(self) -> None:
        numbering = Numbering()
        [undelivered] = numbering.numbered(events(1), "gateway")
        numbering.take([undelivered], "gateway")
        foreign = replace(events(1)[0], sequence=77, sequence_epoch="of somebody else")

        again = numbering.numbered([undelivered, foreign, *events(1)], "gateway")
        numbering.take(again, "gateway")

        assert [event.sequence for event in again] == [1, 77, 2]
        assert [event.sequence for event in numbering.numbered(events(1), "gateway")] == [3]

    def test_what_was_not_taken_leaves_no_gap(self) -> None:
        numbering = Numbering()
        numbering.numbered(events(3), "gateway")

        assert [event.sequence for event in numbering.numbered(events(1), "gateway")] == [1]

    def test_each_life_has_an_epoch_of_its_own(self) -> None:
        epochs = {Numbering().numbered(events(1), "gateway")[0].sequence_epoch for _ in range(3)}

        assert len(epochs) == 3
