"""Events in memory: who waits, who is told, and what a group is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from steelyard.spool import SpoolClosed, SpoolFull, SpoolOptions, SpoolUnavailable, WhenFull
from steelyard.spool.buffer import Buffer, Group
from steelyard.spool.writer import cut

BLOCK, RAISE, DROP = WhenFull.BLOCK, WhenFull.RAISE, WhenFull.DROP_OLDEST
LIMIT = 64 << 10


def a_buffer(when_full: WhenFull = BLOCK, used: Callable[[], int] = lambda: 0, buffer_bytes: int = 4_096) -> Buffer:
    options = SpoolOptions(
        max_bytes=LIMIT, when_full=when_full, buffer_bytes=buffer_bytes, commit_every_s=0.001, batch_events=10
    )
    return Buffer(options, used)


def taken(buffer: Buffer) -> Group:
    group = buffer.take()
    assert group is not None
    return group


class TestGroups:
    def test_hold_what_came_in_order_until_they_are_committed(self) -> None:
        buffer = a_buffer()
        assert [buffer.add(event) for event in (b"1", b"2")] == [1, 2]
        group = taken(buffer)
        buffer.add(b"3")
        assert (group.events, buffer.waiting_events()) == ([b"1", b"2"], 3)
        buffer.committed(group, 0)
        assert (taken(buffer).events, buffer.waiting_events()) == ([b"3"], 1)

    def test_end_when_it_is_closed_and_empty(self) -> None:
        buffer = a_buffer()
        buffer.add(b"1")
        buffer.close()
        assert taken(buffer).events == [b"1"]
        assert buffer.take() is None
        with pytest.raises(SpoolClosed):
            buffer.add(b"2")

    def test_are_cut_into_rows_that_a_call_can_hold(self) -> None:
        large = Group([b"x" * 400_000] * 3, 0, "trace")
        assert [(row.events, row.trace_parent) for row in cut(large, 500)] == [(1, "trace")] * 3
        assert [row.events for row in cut(Group([b"x"] * 25, 25, ""), 10)] == [10, 10, 5]


class TestRoom:
    @pytest.mark.parametrize("when_full", [BLOCK, DROP])
    def test_in_memory_is_waited_for(self, when_full: WhenFull) -> None:
        buffer = a_buffer(when_full)
        for _ in range(4):
            buffer.add(b"x" * 1_000)
        assert buffer.add(b"x" * 1_000, wait=False) == 0
        waiting = threading.Thread(target=buffer.add, args=(b"y" * 1_000,), daemon=True)
        waiting.start()
        group = taken(buffer)
        assert buffer.add(b"x" * 1_000, wait=False) == 0  # What is being written is still in memory.
        buffer.committed(group, 0)
        waiting.join(10)
        assert taken(buffer).events == [b"y" * 1_000]

    def test_in_memory_is_not_waited_for_where_it_says_raise(self) -> None:
        buffer = a_buffer(RAISE)
        for _ in range(4):
            buffer.add(b"x" * 1_000)
        with pytest.raises(SpoolFull):
            buffer.add(b"x" * 1_000)

    def test_one_event_always_fits(self) -> None:
        buffer = a_buffer(RAISE)
        assert buffer.add(b"x" * 10_000) == 1

    def test_on_disk_is_asked_for_before_an_event_is_refused(self) -> None:
        used = [LIMIT, LIMIT, 0]
        buffer = a_buffer(RAISE, lambda: used.pop(0))
        buffer.start_at(LIMIT)
        for _ in range(2):
            with pytest.raises(SpoolFull):
                buffer.add(b"x")
        assert buffer.add(b"x") == 1

    def test_on_disk_is_waited_for(self) -> None:
        used = [LIMIT, LIMIT, 0]
        buffer = a_buffer(BLOCK, lambda: used.pop(0))
        buffer.start_at(LIMIT)
        assert buffer.add(b"x") == 1
        assert used == []

    def test_on_disk_is_made_by_whoever_drops_the_oldest(self) -> None:
        buffer = a_buffer(DROP)
        buffer.start_at(LIMIT * 2)
        assert buffer.add(b"x") == 1


class TestFailures:
    def test_are_told_to_all_who_wait_and_who_come_until_one_commit_succeeds(self) -> None:
        buffer, heard = a_buffer(), list[BaseException]()
        number = buffer.add(b"1")

        def wait() -> None:
            try:
                buffer.wait_committed(number)
            except SpoolUnavailable as error:
                heard.append(error)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        group = taken(buffer)
        buffer.failed(SpoolUnavailable("full", reason="DISK_FULL"), 0.01)
        waiting.join(10)
        with pytest.raises(SpoolUnavailable) as caught:
            buffer.add(b"2")
        assert [error.reason for error in (*heard, caught.value)] == ["DISK_FULL"] * 2  # type: ignore[attr-defined]
        buffer.committed(group, 0)
        assert buffer.add(b"2") == 2
        buffer.wait_committed(number)

    def test_a_flush_gives_up_in_time(self) -> None:
        buffer = a_buffer()
        with pytest.raises(TimeoutError):
            buffer.wait_committed(buffer.add(b"1"), 0.01)


class TestAFork:
    def test_leaves_the_child_an_empty_buffer_that_nobody_holds(self) -> None:
        buffer = a_buffer()
        buffer.add(b"parents")
        buffer.before_fork()
        buffer.after_fork_in_child()
        assert buffer.waiting_events() == 0
        buffer.add(b"childs")
        assert taken(buffer).events == [b"childs"]


class TestOptions:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"max_bytes": 1},
            {"batch_events": 0},
            {"batch_events": 1_001},
            {"buffer_bytes": 1},
            {"lease_s": 5.0},
            {"commit_every_s": 0.0},
        ],
        ids=lambda wrong: next(iter(wrong)) + f" {next(iter(wrong.values()))}",
    )
    def test_that_make_no_sense_are_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="must"):
            SpoolOptions(**wrong)  # type: ignore[arg-type]
