"""Sending a file in chunks: what is added up, kept and printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from libs.cli.event_sending import print_report, send_file
from libs.cli.output import Format
from steelyard import Ack, Client, DeliveryFailed, DeliveryReport, EventProblem, UsageEvent, Verdict


class FakeClient:
    """Records or rejects everything; delivers at most `chunks` calls."""

    def __init__(self, verdict: Verdict = Verdict.RECORDED, chunks: int = 1_000) -> None:
        self.sizes: list[int] = []
        self._verdict, self._chunks = verdict, chunks

    async def send(self, events: Sequence[UsageEvent], *, ack: Ack) -> DeliveryReport:
        if len(self.sizes) == self._chunks:
            raise DeliveryFailed("no answer", events)
        self.sizes.append(len(events))
        bad = self._verdict is Verdict.REJECTED
        problems = [EventProblem(event.event_id, self._verdict, "f", "R", "d") for event in events] if bad else []
        return DeliveryReport(Counter({self._verdict: len(events)}), problems)


def events(count: int) -> Iterator[UsageEvent]:
    return (UsageEvent("t", "c", event_id=str(number)) for number in range(count))


async def sent(client: FakeClient, count: int, total: DeliveryReport) -> DeliveryReport:
    await send_file(cast(Client, client), events(count), Ack.RECORDED, total)
    return total


class TestSending:
    @pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (5_000, [5_000]), (12_001, [5_000, 5_000, 2_001])])
    async def test_goes_in_chunks(self, count: int, sizes: list[int]) -> None:
        client = FakeClient()
        total = await sent(client, count, DeliveryReport())
        assert (client.sizes, total.total) == (sizes, count)

    async def test_what_was_answered_before_a_failure_is_known(self) -> None:
        total = DeliveryReport()
        with pytest.raises(DeliveryFailed):
            await sent(FakeClient(chunks=2), 12_001, total)
        assert total.counts == {Verdict.RECORDED: 10_000}

    async def test_not_every_problem_of_a_large_file_is_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        total = await sent(FakeClient(Verdict.REJECTED), 12_001, DeliveryReport())
        assert len(total.problems) == total.MAX_PROBLEMS == 10_000
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
