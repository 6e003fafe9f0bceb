"""When a batch that stays queued is sent again; the clock is the test's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from steelyard.errors import Unavailable
from steelyard.ingest.v1 import ingest_service_pb2, usage_service_pb2
from steelyard.spool import SpoolOptions, outgoing
from steelyard.spool.confirming import Confirmer
from steelyard.spool.file import SpoolFile
from steelyard.spool.incoming import NewBatch, append
from steelyard.spool.stats import read_stats
from steelyard.spool.transport import Transport

MINUTE, HOUR = 60_000, 3_600_000
RECEIPT = ("epoch-1", 7)


class FakeTransport:
    """Says of everything that it is queued, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def statuses(self, receipts: Sequence[tuple[str, int]]) -> Sequence[usage_service_pb2.BatchStatus]:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        queued = usage_service_pb2.BATCH_STATE_QUEUED
        return [
            usage_service_pb2.BatchStatus(
                receipt=ingest_service_pb2.BatchReceipt(acceptor_epoch=epoch, batch_number=number), state=queued
            )
            for epoch, number in receipts
        ]


class Sent:
    """One batch that was sent at the time 0; `now_ms` is the clock."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 0
        self.transport = FakeTransport()
        self.file = SpoolFile(path)
        monkeypatch.setattr("steelyard.spool.confirming._now_ms", lambda: self.now_ms)
        options = SpoolOptions(resend_after_s=300)
        self.confirmer = Confirmer(self.file, cast(Transport, self.transport), options, lambda problems: None)
        append(self.file, [NewBatch(b"x", 1, "")], 0, None)
        self.send()

    def send(self) -> None:
        taken = outgoing.take_pending(self.file, self.now_ms, MINUTE)
        assert len(taken) == 1
        outgoing.note_sent(self.file, taken, RECEIPT, self.now_ms, self.now_ms)

    def wait_until_sent_again(self) -> int:
        """Return how long that takes from now, looking every 10 s."""
        began_ms = self.now_ms
        while read_stats(self.file, self.now_ms).pending.events == 0:
            self.now_ms += 10_000
            self.confirmer.confirm()
        return self.now_ms - began_ms


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(tmp_path / "usage.spool", monkeypatch)


def test_the_pauses_double_up_to_an_hour(sent: Sent) -> None:
    waits = []
    for _ in range(6):
        waits.append(sent.wait_until_sent_again())
        sent.send()
    wanted = [5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, HOUR, HOUR]
    assert all(exact <= wait <= exact + MINUTE + 10_000 for wait, exact in zip(waits, wanted, strict=True)), waits


def test_the_server_is_asked_ever_more_rarely(sent: Sent) -> None:
    sent.wait_until_sent_again()
    assert sent.transport.asked <= 10


def test_nothing_is_sent_again_while_nobody_answers(sent: Sent) -> None:
    sent.transport.away = True
    for _ in range(100):
        sent.now_ms += 10 * MINUTE
        assert not sent.confirmer.confirm()
    assert read_stats(sent.file, 0).pending.events == 0
    sent.transport.away = False
    assert sent.wait_until_sent_again() <= 10_000
