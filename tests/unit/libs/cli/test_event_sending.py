"""Sending a file in chunks: what is added up, kept and printed, and that it can be left at any time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import pytest

from libs.cli.event_chunks import Chunk
from libs.cli.event_rows import Mark
from libs.cli.event_sending import print_report, send_file
from libs.cli.output import Format
from steelyard import Ack, Client, DeliveryFailed, DeliveryReport, EventProblem, UsageEvent, Verdict


class FakeClient:
    """Records everything, in another order than it is given; fails chunks that begin with an event in `failing`.

    Answers nothing before `together` chunks are there.
    """

    def __init__(self, *, failing: Sequence[str] = (), together: int = 0) -> None:
        self.begun: list[str] = []
        self.most_at_a_time = self._at_a_time = 0
        self._failing, self._together, self._enough = failing, together, asyncio.Event()

    async def send(self, events: Sequence[UsageEvent], *, ack: Ack) -> DeliveryReport:
        first = events[0].event_id
        self.begun.append(first)
        self._at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self._at_a_time)
        if len(self.begun) >= self._together:
            self._enough.set()
        await self._enough.wait()
        for _ in range(int(first) * 7 % 5):  # Later ones are answered before earlier ones.
            await asyncio.sleep(0)
        self._at_a_time -= 1
        if first in self._failing:
            raise DeliveryFailed("no answer", events)
        return DeliveryReport(Counter({Verdict.RECORDED: len(events)}))


def chunks(count: int, size: int = 10) -> Iterator[Chunk]:
    for number in range(count):
        events = [UsageEvent("t", "c", event_id=str(number * size + index)) for index in range(size)]
        yield Chunk(events, Mark((number + 1) * size, 1))


class Answers:
    """What was answered, in the order in which it was told."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.counts: Counter[Verdict] = Counter()

    def __call__(self, chunk: Chunk, report: DeliveryReport) -> None:
        self.ends.append(chunk.end.offset)
        self.counts.update(report.counts)


async def sent(client: FakeClient, source: Iterator[Chunk], answers: Answers) -> None:
    await send_file(cast(Client, client), source, Ack.RECORDED, answers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it looks at is set on another thread
            await asyncio.sleep(0.001)


class TestSending:
    @pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 50])
    async def test_goes_on_side_by_side_and_is_told_in_order(self, count: int) -> None:
        client, answers = FakeClient(together=min(count, 8)), Answers()
        await sent(client, chunks(count), answers)
        assert answers.ends == [10 * (number + 1) for number in range(count)]
        assert (answers.counts.total(), len(client.begun)) == (10 * count, count)
        assert client.most_at_a_time == min(count, 8)

    @pytest.mark.parametrize("failing", [0, 3, 19])
    async def test_what_was_answered_before_a_failure_is_told_and_nothing_behind_it(self, failing: int) -> None:
        client, answers = FakeClient(failing=[str(failing * 10), "190"]), Answers()
        with pytest.raises(DeliveryFailed):
            await sent(client, chunks(100), answers)
        assert answers.ends == [10 * (number + 1) for number in range(failing)]
        assert len(client.begun) <= failing + 9

    async def test_what_stands_before_a_bad_line_is_sent(self) -> None:
        def source() -> Iterator[Chunk]:
            yield from chunks(3)
            raise ValueError("bad line")

        answers = Answers()
        with pytest.raises(ValueError, match="bad line"):
            await sent(FakeClient(), source(), answers)
        assert answers.ends == [10, 20, 30]

    async def test_little_is_read_ahead(self) -> None:
        read = 0

        def source() -> Iterator[Chunk]:
            nonlocal read
            for chunk in chunks(1_000):
                read += 1
                yield chunk

        class Silent(FakeClient):
            async def send(self, events: Sequence[UsageEvent], *, ack: Ack) -> DeliveryReport:
                await asyncio.Event().wait()
                raise AssertionError("never")

        task = asyncio.create_task(sent(Silent(), source(), Answers()))
        await until(lambda: read == 8)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert read == 8


class TestLeaving:
    async def test_a_call_that_misses_its_cancellation_is_cancelled_again(self) -> None:
        class Stubborn(FakeClient):
            tries = 0

            async def send(self, events: Sequence[UsageEvent], *, ack: Ack) -> DeliveryReport:
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:  # As a call that fails at the same moment: it is tried once more.
                        Stubborn.tries += 1
                        if Stubborn.tries == 3:
                            raise

        task = asyncio.create_task(sent(Stubborn(), chunks(1), Answers()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        assert Stubborn.tries == 3

    async def test_does_not_wait_for_a_pipe_that_says_nothing(self) -> None:
        silence = threading.Event()

        def source() -> Iterator[Chunk]:
            yield from chunks(1)
            silence.wait(60)

        answers = Answers()
        task = asyncio.create_task(sent(FakeClient(), source(), answers))
        await until(lambda: bool(answers.ends))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        silence.set()


class TestReport:
    def test_not_every_problem_of_a_large_file_is_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        problem = EventProblem("e", Verdict.REJECTED, "f", "R", "d")
        total = DeliveryReport(Counter({Verdict.REJECTED: 12_001}), [problem] * 10_000)
        print_report(total, Format.JSON)
        printed = json.loads(capsys.readouterr().out)
        assert printed["counts"] == {"queued": 0, "recorded": 0, "duplicate": 0, "conflict": 0, "rejected": 12_001}
        assert (len(printed["problems"]), printed["more_problems"]) == (10_000, 2_001)
        print_report(total, Format.TABLE)
        first, _, *rows, last = capsys.readouterr().out.splitlines()
        assert (first, len(rows)) == ("12001 rejected", 50)
        assert last == "and 11,951 more: `steelyard events exceptions`"

    def test_a_file_without_events_is_said_to_be_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_report(DeliveryReport(), Format.TABLE)
        assert capsys.readouterr().out == "no events\n"
