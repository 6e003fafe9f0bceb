"""Rows on their way: taken by one at a time, counted right, and set aside or dropped only where it says so."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2
from steelyard.spool import SpoolStats, outgoing
from steelyard.spool.file import SpoolFile
from steelyard.spool.incoming import ROW_BYTES, Appended, NewBatch, append, frame
from steelyard.spool.outgoing import Outgoing, Verdicts
from steelyard.spool.stats import read_dead_letters, read_stats
from tests.support.spool_file import totals_agree

NOW, LEASE, RECEIPT = 1_000_000, 60_000, ("epoch-1", 7)


@pytest.fixture
def file(tmp_path: Path) -> SpoolFile:
    return SpoolFile(tmp_path / "usage.spool")


def add(file: SpoolFile, *events: int, size: int = 100, below: int | None = None, now_ms: int = NOW) -> Appended:
    """A batch for each number of events; the first byte of its payload is its place."""
    batches = [NewBatch(bytes([place]) + b"x" * (size - 1), count, "") for place, count in enumerate(events)]
    return append(file, batches, now_ms, below)


def take(file: SpoolFile, now_ms: int = NOW) -> list[Outgoing]:
    return outgoing.take_pending(file, now_ms, LEASE)


def places(batches: list[Outgoing]) -> list[int]:
    return [batch.payload[0] for batch in batches]


def stats(file: SpoolFile, now_ms: int = NOW) -> SpoolStats:
    assert totals_agree(Path(file.path))
    return read_stats(file, now_ms)


def verdicts(file: SpoolFile, now_ms: int, **lists: list[outgoing.Awaiting]) -> None:
    empty: dict[str, list[outgoing.Awaiting]] = {"recorded": [], "send_again": [], "parked": []}
    outgoing.apply_verdicts(file, Verdicts(**(empty | lists), check_ms={}, problems={}), now_ms)


class TestTaking:
    def test_gives_a_row_to_one_taker_until_the_lease_ends(self, file: SpoolFile) -> None:
        add(file, 1, 1)
        assert places(take(file)) == [0, 1]
        assert take(file, NOW + LEASE - 1) == []
        assert places(take(file, NOW + LEASE)) == [0, 1]

    def test_fills_a_call_up_to_its_limits(self, file: SpoolFile) -> None:
        add(file, 600, 400, 1)
        assert [places(take(file)) for _ in range(3)] == [[0, 1], [2], []]
        add(file, 1, 1, 1, size=300_000)
        assert [places(take(file)) for _ in range(2)] == [[0, 1], [2]]

    def test_sends_alone_what_failed_often(self, file: SpoolFile) -> None:
        add(file, 1, 1, 1)
        for _ in range(3):
            taken = take(file)
            outgoing.put_back(file, {taken[0].id: NOW}, failures=1)
            outgoing.put_back(file, {batch.id: NOW for batch in taken[1:]})
        assert [places(take(file)) for _ in range(3)] == [[0], [1, 2], []]

    def test_heals_a_clock_that_was_set_back(self, file: SpoolFile) -> None:
        add(file, 1)
        take(file, NOW + 10_000_000)
        assert take(file) == []
        outgoing.heal_clock(file, NOW, 200_000)
        assert places(take(file)) == [0]

    def test_sets_aside_what_was_changed_on_disk(self, file: SpoolFile) -> None:
        add(file, 2, 1)
        with file.transaction() as connection:
            connection.execute("UPDATE payloads SET payload = CAST('y' || substr(payload, 2) AS BLOB) WHERE id = 1")
        assert places(take(file)) == [1]
        (letter,) = read_dead_letters(file, 10)
        assert (letter.events, letter.refusal.startswith("CHECKSUM")) == (2, True)
        assert stats(file).dead.events == 2


class TestSent:
    def test_what_is_recorded_is_gone_and_counted(self, file: SpoolFile) -> None:
        add(file, 3, 4)
        outgoing.note_sent(file, take(file), RECEIPT, NOW, NOW + 1_000)
        assert stats(file).sent.events == 7
        assert outgoing.take_sent(file, NOW, LEASE) == []
        awaiting = outgoing.take_sent(file, NOW + 1_000, LEASE)
        assert [(item.receipt, item.sent_ms) for item in awaiting] == [(RECEIPT, NOW)] * 2

        verdicts(file, NOW, recorded=awaiting[:1], send_again=awaiting[1:])

        after = stats(file)
        assert (after.recorded, after.resent, after.sent.events, after.pending.events) == (3, 4, 0, 4)
        (again,) = take(file)
        assert (again.resends, again.payload[0]) == (1, 1)

    def test_a_taker_who_wakes_up_late_changes_no_other_batch(self, file: SpoolFile) -> None:
        add(file, 1)
        late = take(file)
        outgoing.note_sent(file, take(file, NOW + LEASE), RECEIPT, NOW, NOW)
        verdicts(file, NOW, recorded=outgoing.take_sent(file, NOW, LEASE))
        add(file, 5)  # SQLite would use the id again, were it allowed to.

        outgoing.note_sent(file, late, ("epoch-1", 8), NOW, NOW)

        assert stats(file).pending.events == 5

    def test_parked_is_asked_about_again(self, file: SpoolFile) -> None:
        add(file, 1)
        outgoing.note_sent(file, take(file), RECEIPT, NOW, NOW)
        verdicts(file, NOW, parked=outgoing.take_sent(file, NOW, LEASE))
        assert stats(file).parked.events == 1
        verdicts(file, NOW, recorded=outgoing.take_sent(file, NOW + LEASE, LEASE))
        assert stats(file).events == 0


class TestDeadLetters:
    def test_are_kept_with_the_reason_and_can_be_tried_again(self, file: SpoolFile) -> None:
        add(file, 2)
        assert outgoing.set_aside(file, [take(file)[0].id], "no", 1_000)
        assert [(item.events, item.refusal) for item in read_dead_letters(file, 10)] == [(2, "no")]
        assert (take(file, NOW + LEASE), stats(file).oldest_age_s) == ([], 0)

        assert outgoing.revive(file, NOW) == 2

        assert places(take(file)) == [0]

    def test_are_bounded_and_what_does_not_fit_stays(self, file: SpoolFile) -> None:
        add(file, 1, 1)
        first, second = take(file)
        assert outgoing.set_aside(file, [first.id], "no", 1)
        assert not outgoing.set_aside(file, [second.id], "no", 1)
        assert (stats(file).dead.events, stats(file).pending.events) == (1, 1)


class TestDroppingTheOldest:
    SIZE = 1_000 + ROW_BYTES

    def test_lets_go_first_of_what_the_server_has(self, file: SpoolFile) -> None:
        add(file, 1, 2, 4, size=1_000)
        taken = take(file)
        outgoing.note_sent(file, taken[1:2], RECEIPT, NOW, NOW)

        done = add(file, 8, size=1_000, below=3 * self.SIZE)

        assert (done.released, done.dropped, done.used_bytes) == (2, 0, 3 * self.SIZE)
        done = add(file, 16, size=1_000, below=3 * self.SIZE)
        assert (done.released, done.dropped) == (0, 1)
        after = stats(file)
        assert (after.released, after.dropped, after.pending.events) == (2, 1, 4 + 8 + 16)

    def test_leaves_dead_letters_alone(self, file: SpoolFile) -> None:
        add(file, 1, size=1_000)
        outgoing.set_aside(file, [take(file)[0].id], "no", 10_000)
        add(file, 2, size=1_000, below=self.SIZE)
        assert (stats(file).dead.events, stats(file).pending.events, stats(file).dropped) == (1, 2, 0)

    def test_never_refuses_what_is_larger_than_the_limit(self, file: SpoolFile) -> None:
        add(file, 1, size=1_000)
        assert add(file, 2, size=5_000, below=2_000).dropped == 1
        assert stats(file).pending.events == 2


class TestFraming:
    @given(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=300).map(lambda text: text * 200), max_size=5
        )
    )
    def test_frames_that_follow_each_other_are_a_request(self, texts: list[str]) -> None:
        events = [usage_event_pb2.UsageEvent(event_id=text) for text in texts]
        joined = b"".join(frame(event.SerializeToString()) for event in events)
        assert list(ingest_service_pb2.IngestEventsRequest.FromString(joined).events) == events


class TestTheAge:
    def test_is_that_of_the_oldest_that_is_not_recorded(self, file: SpoolFile) -> None:
        add(file, 1, now_ms=NOW)
        add(file, 1, now_ms=NOW + 5_000)
        outgoing.note_sent(file, take(file, NOW), RECEIPT, NOW, NOW)
        assert stats(file, NOW + 9_000).oldest_age_s == 9
        verdicts(file, NOW, recorded=outgoing.take_sent(file, NOW, LEASE))
        assert stats(file, NOW + 9_000).oldest_age_s == 4


class TestTheFormat:
    def test_says_what_it_is_to_other_programs(self, file: SpoolFile) -> None:
        add(file, 1)
        file.close()
        with sqlite3.connect(file.path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
