"""One stream of events against a caller and an acceptor that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import cast

import grpc
import pytest

from libs.errors import InvalidInput, ResourceExhausted, ServiceError
from libs.rpc import Audience, Principal, set_current_principal
from services.ingest.rpc import event_stream
from services.ingest.rpc.event_stream import MAX_BATCHES, MAX_BYTES, Context, EventStream
from services.ingest.rpc.stream_credit import StreamLoad
from services.ingest.usecases.errors import Overloaded, QueueUnavailable
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import usage_event_pb2

OPEN = pb.StreamEventsRequest(open=pb.StreamOpen(ack_level=pb.ACK_LEVEL_QUEUED))


def a_batch(number: int, events: int = 1, text: str = "") -> pb.StreamEventsRequest:
    event = usage_event_pb2.UsageEvent(event_id=f"e{number}", properties={"text": text})
    return pb.StreamEventsRequest(batch=pb.StreamBatch(number=number, events=[event] * events))


class Caller:
    """The other side: sends what the test puts, and reads answers while `reads` is set."""

    def __init__(self, *requests: pb.StreamEventsRequest) -> None:
        self.requests: asyncio.Queue[object] = asyncio.Queue()
        self.answers: list[pb.StreamEventsResponse] = []
        self.read_count = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.send(*requests)

    def send(self, *requests: pb.StreamEventsRequest) -> None:
        for request in requests:
            self.requests.put_nowait(request)

    def close(self) -> None:
        self.requests.put_nowait(grpc.aio.EOF)

    async def read(self) -> object:
        request = await self.requests.get()
        self.read_count += 1
        return request

    async def write(self, answer: pb.StreamEventsResponse) -> None:
        await self.reads.wait()
        self.answers.append(answer)

    @property
    def acknowledged(self) -> list[int]:
        return [answer.ack.number for answer in self.answers if answer.HasField("ack")]

    @property
    def failures(self) -> list[pb.StreamFailure]:
        return [answer.failure for answer in self.answers if answer.HasField("failure")]


class Acceptor:
    """Accepts batches by their first event id; those in `gates` when the gate opens, those in `errors` never."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.accepted: list[str] = []
        self.cancelled: list[str] = []

    async def __call__(
        self, events: Sequence[usage_event_pb2.UsageEvent], level: int, size_bytes: int, time_left_s: float
    ) -> pb.IngestEventsResponse:
        event_id = events[0].event_id
        try:
            if event_id in self.gates:
                await self.gates[event_id].wait()
        except asyncio.CancelledError:
            self.cancelled.append(event_id)
            raise
        if event_id in self.errors:
            raise self.errors[event_id]
        self.accepted.append(event_id)
        return pb.IngestEventsResponse(
            verdicts=[pb.EVENT_VERDICT_QUEUED] * len(events),
            receipt=pb.BatchReceipt(acceptor_epoch="epoch", batch_number=7),
        )


class Stream:
    """A stream that runs in a task of its own."""

    def __init__(self, caller: Caller, accept: Acceptor, load: StreamLoad | None = None) -> None:
        self.load = load or StreamLoad(1 << 30)
        self.draining = asyncio.Event()
        set_current_principal(Principal(Audience.TENANT, "acme", "k1"))
        stream = EventStream(cast(Context, caller), accept, self.load, self.draining)
        self.task = asyncio.create_task(stream.run())

    async def ends(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.task), 10)

    async def fails(self) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            await self.ends()
        return caught.value


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50 + 4 * MAX_BATCHES):
        await asyncio.sleep(0)


class TestAcknowledgements:
    async def test_come_with_verdicts_and_receipt_after_the_credit(self) -> None:
        caller = Caller(OPEN, a_batch(1, events=3), a_batch(2))
        caller.close()
        await Stream(caller, Acceptor()).ends()

        assert caller.answers[0] == pb.StreamEventsResponse(
            credit=pb.StreamCredit(batches=MAX_BATCHES, bytes=MAX_BYTES)
        )
        assert caller.acknowledged == [1, 2]
        assert list(caller.answers[1].ack.verdicts) == [pb.EVENT_VERDICT_QUEUED] * 3
        assert caller.answers[1].ack.receipt == pb.BatchReceipt(acceptor_epoch="epoch", batch_number=7)

    async def test_come_in_the_order_in_which_batches_become_safe(self) -> None:
        accept, caller = Acceptor(), Caller(OPEN, a_batch(1), a_batch(2))
        accept.gates["e1"] = asyncio.Event()
        stream = Stream(caller, accept)
        caller.close()
        await settle()
        before = list(caller.acknowledged)
        accept.gates["e1"].set()
        await stream.ends()

        assert before == [2]
        assert caller.acknowledged == [2, 1]

    async def test_a_bad_batch_in_the_middle_fails_alone(self) -> None:
        empty = pb.StreamEventsRequest(batch=pb.StreamBatch(number=2))
        caller = Caller(OPEN, a_batch(1), empty, a_batch(3, events=1_001), a_batch(4, text="x" * 800_000), a_batch(5))
        caller.close()
        await Stream(caller, Acceptor()).ends()

        assert caller.acknowledged == [1, 5]
        found = [(failure.number, failure.code, failure.reason) for failure in caller.failures]
        assert found == [(2, 3, "BATCH_EMPTY"), (3, 3, "BATCH_TOO_LARGE"), (4, 3, "BATCH_TOO_LARGE")]

    @pytest.mark.parametrize(
        ("error", "code", "reason", "retry_after_ns"),
        [
            (Overloaded("full", retry_after_s=Decimal("0.5")), 8, "OVERLOADED", 500_000_000),
            (QueueUnavailable("away", retry_after_s=Decimal(1)), 14, "QUEUE_UNAVAILABLE", 1_000_000_000),
            (RuntimeError("password is swordfish"), 13, "INTERNAL", 0),
        ],
        ids=["overloaded", "queue unavailable", "fault"],
    )
    async def test_what_cannot_be_taken_says_why_and_when_to_come_back(
        self, error: Exception, code: int, reason: str, retry_after_ns: int
    ) -> None:
        accept, caller = Acceptor(), Caller(OPEN, a_batch(1), a_batch(2))
        accept.errors["e1"] = error
        caller.close()
        await Stream(caller, accept).ends()

        (failure,) = caller.failures
        assert (failure.number, failure.code, failure.reason) == (1, code, reason)
        assert failure.retry_after.ToNanoseconds() == retry_after_ns
        assert "swordfish" not in failure.description
        assert caller.acknowledged == [2]


class TestProtocol:
    @pytest.mark.parametrize(
        ("requests", "reason"),
        [
            ([a_batch(1)], "STREAM_NOT_OPEN"),
            ([pb.StreamEventsRequest()], "STREAM_NOT_OPEN"),
            ([pb.StreamEventsRequest(open=pb.StreamOpen())], "ACK_LEVEL_MISSING"),
            ([OPEN, OPEN], "STREAM_OPENED_TWICE"),
            ([OPEN, pb.StreamEventsRequest()], "CONTENT_MISSING"),
            ([OPEN, a_batch(2), a_batch(2)], "BATCH_NUMBER_NOT_GROWING"),
        ],
        ids=["batch first", "nothing first", "no level", "opened twice", "nothing later", "same number"],
    )
    async def test_a_violation_ends_the_stream(self, requests: list[pb.StreamEventsRequest], reason: str) -> None:
        error = await Stream(Caller(*requests), Acceptor()).fails()

        assert isinstance(error, InvalidInput)
        assert error.reason == reason

    async def test_a_stream_that_is_closed_before_it_is_open_is_one_too(self) -> None:
        caller = Caller()
        caller.close()

        assert (await Stream(caller, Acceptor()).fails()).reason == "STREAM_NOT_OPEN"

    async def test_one_that_is_not_opened_in_time_is_one_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_stream, "_OPEN_WITHIN_S", 0.01)

        assert (await Stream(Caller(), Acceptor()).fails()).reason == "STREAM_NOT_OPEN"

    async def test_too_many_batches_end_the_stream(self) -> None:
        accept = Acceptor()
        accept.gates = {f"e{number}": asyncio.Event() for number in range(1, MAX_BATCHES + 2)}
        caller = Caller(OPEN, *(a_batch(number) for number in range(1, MAX_BATCHES + 2)))
        stream = Stream(caller, accept)
        error = await stream.fails()

        assert isinstance(error, ResourceExhausted)
        assert error.reason == "CREDIT_EXCEEDED"
        assert len(accept.cancelled) == MAX_BATCHES
        assert stream.load.held_bytes == 0

    async def test_too_many_bytes_end_the_stream(self) -> None:
        accept = Acceptor()
        accept.gates = {f"e{number}": asyncio.Event() for number in range(1, 9)}
        large = MAX_BYTES // 6
        caller = Caller(OPEN, *(a_batch(number, text="x" * large) for number in range(1, 8)))

        assert (await Stream(caller, accept).fails()).reason == "CREDIT_EXCEEDED"


class TestBackpressure:
    async def test_answers_that_nobody_reads_do_not_pile_up(self) -> None:
        """The caller keeps to its credit by its own count, and that does not move: it has read no answer."""
        accept, caller = Acceptor(), Caller(OPEN)
        stream = Stream(caller, accept)
        await settle()
        caller.reads.clear()
        caller.send(*(a_batch(number) for number in range(1, MAX_BATCHES + 1)))
        await settle()
        assert len(accept.accepted) == MAX_BATCHES

        # One whose answer is being written is settled already; the next one that is sent all the same ends the stream.
        caller.send(a_batch(MAX_BATCHES + 1), a_batch(MAX_BATCHES + 2))

        assert (await stream.fails()).reason == "CREDIT_EXCEEDED"
        assert stream.load.held_bytes == 0

    async def test_what_all_streams_hold_is_bounded(self) -> None:
        load, accept = StreamLoad(1_000), Acceptor()
        accept.gates["e1"] = asyncio.Event()
        first, second = Caller(OPEN, a_batch(1, text="x" * 900)), Caller(OPEN, a_batch(2, text="x" * 900))
        holding = Stream(first, accept, load)
        await settle()
        refused = Stream(second, accept, load)
        await settle()
        accept.gates["e1"].set()
        await settle()
        second.send(a_batch(3, text="x" * 900))
        second.close()
        first.close()
        await holding.ends()
        await refused.ends()

        assert [(failure.number, failure.reason) for failure in second.failures] == [(2, "OVERLOADED")]
        assert (first.acknowledged, second.acknowledged) == ([1], [3])
        assert (load.held_bytes, load.streams) == (0, 0)


class TestEnd:
    async def test_a_drain_takes_what_still_comes_and_ends_in_good_order(self) -> None:
        accept, caller = Acceptor(), Caller(OPEN, a_batch(1))
        accept.gates["e1"] = asyncio.Event()
        stream = Stream(caller, accept)
        await settle()
        stream.draining.set()
        await settle()
        assert caller.answers[-1].HasField("drain")
        caller.send(a_batch(2))
        caller.close()
        accept.gates["e1"].set()
        await stream.ends()

        assert sorted(caller.acknowledged) == [1, 2]

    async def test_a_drain_does_not_wait_for_ever_for_the_caller(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_stream, "_READ_AFTER_DRAIN_S", 0.01)
        accept, caller = Acceptor(), Caller(OPEN, a_batch(1))
        accept.gates["e1"] = asyncio.Event()
        stream = Stream(caller, accept)
        await settle()
        stream.draining.set()
        await asyncio.sleep(0.05)
        caller.send(a_batch(2))
        assert not stream.task.done()
        accept.gates["e1"].set()
        await stream.ends()

        assert caller.acknowledged == [1]
        assert accept.accepted == ["e1"]

    async def test_a_caller_that_goes_away_takes_along_what_is_not_published(self) -> None:
        accept, caller = Acceptor(), Caller(OPEN, a_batch(1), a_batch(2))
        accept.gates["e2"] = asyncio.Event()
        stream = Stream(caller, accept)
        await settle()
        stream.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream.task

        assert (accept.accepted, accept.cancelled) == (["e1"], ["e2"])
        assert (stream.load.held_bytes, stream.load.streams) == (0, 0)

    async def test_a_write_that_fails_ends_the_stream_with_that_error(self) -> None:
        class Gone(Caller):
            async def write(self, answer: pb.StreamEventsResponse) -> None:
                if answer.HasField("ack"):
                    raise ConnectionResetError
                await super().write(answer)

        with pytest.raises(ConnectionResetError):
            await Stream(Gone(OPEN, a_batch(1)), Acceptor()).ends()
