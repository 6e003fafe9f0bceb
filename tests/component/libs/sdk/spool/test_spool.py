"""A spool and its server: what is spooled is delivered until it is recorded, whatever happens in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider

from steelyard import Endpoints, EventProblem, InvalidRequest, SteelyardError, UsageEvent, Verdict
from steelyard.ingest.v1 import usage_service_pb2 as usage_pb
from steelyard.spool import Spool, SpoolClosed, SpoolFull, SpoolOptions, SpoolUnavailable, WhenFull
from steelyard.spool.incoming import append
from tests.component.libs.sdk.spool.server import FakeServer, serving, until
from tests.support.spool_file import events_in, totals_agree

QUICK = SpoolOptions(commit_every_s=0.005, backoff_s=0.01, call_timeout_s=5, lease_s=6)
PARKED, QUEUED, LOST = usage_pb.BATCH_STATE_PARKED, usage_pb.BATCH_STATE_QUEUED, usage_pb.BATCH_STATE_LOST
NOWHERE = Endpoints(ingest="127.0.0.1:1", query="127.0.0.1:1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.spool"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask about receipts at once and often."""
    monkeypatch.setattr("steelyard.spool.sender._FIRST_CHECK_MS", 1)
    monkeypatch.setattr("steelyard.spool.confirming._SHORTEST_MS", 10)
    monkeypatch.setattr("steelyard.spool.confirming._AWAY_MS", 10)
    monkeypatch.setattr("steelyard.spool.sender._IDLE_S", 0.01)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def endpoints(server: FakeServer) -> Iterator[Endpoints]:
    with serving(server) as found:
        yield found


def a_spool(path: Path, endpoints: Endpoints, options: SpoolOptions = QUICK, **more: object) -> Spool:
    return Spool(path, api_key="sy_key", endpoints=endpoints, options=options, **more)  # type: ignore[arg-type]


def record(spool: Spool, count: int, first: int = 0, customer: str = "c1") -> list[str]:
    return [spool.record("call", customer, event_id=f"e{first + at}") for at in range(count)]


class TestDelivery:
    def test_what_is_recorded_leaves_the_file(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        with a_spool(path, endpoints, source="gateway") as spool:
            ids = record(spool, 2_500)
            assert spool.drain(30)
            stats = spool.stats()
        assert sorted(server.deliveries) == sorted(ids)
        assert max(len(batch) for batch in server.batches.values()) <= 1_000
        assert (stats.events, stats.recorded, stats.resent, stats.oldest_age_s) == (0, 2_500, 0, 0)
        assert server.metadata[0]["authorization"] == "Bearer sy_key"
        assert totals_agree(path)

    def test_small_rows_share_a_call(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        with Spool(path, options=QUICK) as producer:
            for number in range(30):
                producer.record("call", "c1", event_id=f"e{number}", durable=True)
        with a_spool(path, endpoints) as spool:
            assert spool.drain(30)
        assert [len(batch) for batch in server.batches.values()] == [30]

    def test_an_answer_that_was_lost_is_sent_again_under_the_same_ids(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        server.failures = [(grpc.StatusCode.UNAVAILABLE, True), (grpc.StatusCode.RESOURCE_EXHAUSTED, False)]
        with a_spool(path, endpoints) as spool:
            ids = record(spool, 3)
            assert spool.drain(30)
        assert server.deliveries == ids * 2

    def test_an_outage_of_the_server(self, path: Path, server: FakeServer) -> None:
        with serving(server) as endpoints:
            port = int(endpoints.ingest.rpartition(":")[2])
            spool = a_spool(path, endpoints)
            first = record(spool, 10)
            assert spool.drain(30)
        second = record(spool, 5_000, first=10)
        spool.flush()
        assert not spool.drain(0.1)
        assert sorted(events_in(path)) == sorted(second)
        with serving(server, port):
            assert spool.drain(60)
        spool.close()
        assert sorted(set(server.deliveries)) == sorted([*first, *second])

    def test_a_batch_continues_the_trace_of_its_events(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        tracer = TracerProvider().get_tracer("test")
        with a_spool(path, endpoints) as spool, tracer.start_as_current_span("work") as span:
            record(spool, 2)
            assert spool.drain(30)
        assert f"{span.get_span_context().trace_id:032x}" in str(server.metadata[0]["traceparent"])

    def test_sending_needs_both_endpoints(self, path: Path) -> None:
        with pytest.raises(SteelyardError, match="query"):
            Spool(path, api_key="sy_key", endpoints=Endpoints(ingest="127.0.0.1:1"))


class TestConfirmation:
    def test_what_the_queue_lost_is_sent_again(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        server.states[1] = LOST
        with a_spool(path, endpoints) as spool:
            ids = record(spool, 3)
            assert spool.drain(30)
            assert (spool.stats().resent, spool.stats().recorded) == (3, 3)
        assert server.deliveries == ids * 2

    def test_what_stays_queued_is_sent_again_after_a_while(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        """The last batches of an acceptor that ended leave no gap when the queue loses them: nobody calls them lost."""
        server.states[1] = QUEUED
        options = SpoolOptions(commit_every_s=0.005, resend_after_s=0.2)
        with a_spool(path, endpoints, options) as spool:
            ids = record(spool, 3)
            assert spool.drain(30)
        assert server.deliveries == ids * 2

    def test_nothing_is_sent_again_while_nobody_knows(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        """PostgreSQL is down: the queue has the events, and more of the same would not help."""
        server.status_failure = grpc.StatusCode.UNAVAILABLE
        options = SpoolOptions(commit_every_s=0.005, resend_after_s=0.05)
        with a_spool(path, endpoints, options) as spool:
            record(spool, 3)
            assert not spool.drain(1)
            assert (len(server.batches), spool.stats().sent.events) == (1, 3)
            server.status_failure = None
            assert spool.drain(30)

    def test_what_is_parked_is_kept_and_holds_nobody_up(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        server.states[1] = PARKED
        with a_spool(path, endpoints) as spool:
            record(spool, 2)
            assert spool.drain(30)
            assert (spool.stats().parked.events, spool.stats().recorded) == (2, 0)
            record(spool, 3, first=2)
            assert spool.drain(30)
            assert (spool.stats().parked.events, spool.stats().recorded) == (2, 3)
            del server.states[1]
            until(lambda: spool.stats().recorded == 5)

    def test_rejections_and_conflicts_are_told_once(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        server.states[1] = LOST
        heard: list[EventProblem] = []
        with a_spool(path, endpoints, on_problem=heard.append) as spool:
            record(spool, 1, customer="bad-1")
            record(spool, 1, first=1, customer="twice-1")
            record(spool, 1, first=2)
            assert spool.drain(30)
            stats = spool.stats()
        assert [(item.event_id, item.verdict, item.reason) for item in heard] == [
            ("e0", Verdict.REJECTED, "BAD"),
            ("e1", Verdict.CONFLICT, "OTHER_CONTENT"),
        ]
        assert (stats.rejected, stats.conflicts) == (1, 1)

    def test_a_listener_that_fails_stops_nothing(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        def listen(problem: EventProblem) -> None:
            raise LookupError(problem.event_id)

        with a_spool(path, endpoints, on_problem=listen) as spool:
            record(spool, 2, customer="bad-1")
            assert spool.drain(30)

    def test_asks_about_fewer_when_there_is_too_much_to_say(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        server.most_exceptions, server.status_failure = 3, grpc.StatusCode.UNAVAILABLE
        heard: list[EventProblem] = []
        with a_spool(path, endpoints, on_problem=heard.append) as spool:
            for number in range(8):
                record(spool, 1, first=number, customer="twice-1")
                until(lambda number=number: len(server.batches) == number + 1)  # type: ignore[misc]
            server.status_failure = None
            assert spool.drain(30)
        assert sorted(item.event_id for item in heard) == [f"e{number}" for number in range(8)]
        assert max(server.asked) <= 3


class TestRefusals:
    @pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION])
    def test_a_batch_that_is_refused_is_set_aside_alone(
        self, path: Path, server: FakeServer, endpoints: Endpoints, code: grpc.StatusCode
    ) -> None:
        server.refuses, server.refusal = {"e1"}, code
        with Spool(path, options=QUICK) as producer:
            for number in range(4):
                producer.record("call", "c1", event_id=f"e{number}", durable=True)
        with a_spool(path, endpoints) as spool:
            assert spool.drain(30)
            (letter,) = spool.dead_letters()
            assert (letter.events, "TOLD_TO" in letter.refusal, spool.stats().dead.events) == (1, True, 1)
            assert sorted(server.deliveries) == ["e0", "e2", "e3"]

            server.refuses = set()
            assert spool.retry_dead_letters() == 1
            assert spool.drain(30)
        assert sorted(server.deliveries) == ["e0", "e1", "e2", "e3"]

    def test_a_key_that_is_refused_sets_nothing_aside(
        self, path: Path, server: FakeServer, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not the batch's fault, and it would be so with every other one."""
        monkeypatch.setattr("steelyard.spool.sender._KEY_PAUSE_S", 0.01)
        server.away = grpc.StatusCode.UNAUTHENTICATED
        with a_spool(path, endpoints) as spool:
            record(spool, 3)
            until(lambda: "NotAllowed" in spool.last_error)
            assert (spool.stats().pending.events, spool.stats().dead.events) == (3, 0)
            server.away = None
            assert spool.drain(30)
            assert spool.last_error == ""

    def test_a_key_that_no_call_can_carry_is_refused_at_once(self, path: Path) -> None:
        with pytest.raises(SteelyardError, match="line end") as caught:
            Spool(path, api_key="sy_key\n", endpoints=NOWHERE)
        assert "sy_key" not in str(caught.value)

    def test_a_batch_on_which_the_server_fails_does_not_block_others(
        self, path: Path, server: FakeServer, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("steelyard.spool.sender._LONGEST_FAILURE_PAUSE_S", 1)
        server.refuses, server.refusal = {"e0"}, grpc.StatusCode.INTERNAL
        with a_spool(path, endpoints) as spool:
            record(spool, 1)
            spool.flush()
            record(spool, 3, first=1)
            until(lambda: sorted(set(server.deliveries)) == ["e1", "e2", "e3"])
            # The server has a batch before the spool knows that it has.
            until(lambda: (spool.stats().dead.events, spool.stats().pending.events) == (0, 1))
            server.refuses = set()
            assert spool.drain(30)

    def test_an_event_no_call_can_hold_is_refused_at_once(self, path: Path) -> None:
        with Spool(path) as spool:
            with pytest.raises(InvalidRequest) as caught:
                spool.record("call", "c1", {"text": "x" * 800_000})
            assert caught.value.reason == "EVENT_TOO_LARGE"
            with pytest.raises(TypeError):
                spool.record("call", "c1", {"tokens": 0.5})  # type: ignore[dict-item]
            spool.flush()
            assert spool.stats().events == 0


SMALL = 64 << 10


def fill(spool: Spool, count: int = 100) -> int:
    """Record events of a kilobyte, each on disk before the next; return how many were taken."""
    for number in range(count):
        spool.record("call", "c1", {"text": "x" * 1_000}, event_id=f"f{number}", durable=True)
    return count


class TestWhenItIsFull:
    def test_raise_raises_until_there_is_room(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        options = SpoolOptions(max_bytes=SMALL, when_full=WhenFull.RAISE, commit_every_s=0.005)
        with Spool(path, options=options) as spool:
            with pytest.raises(SpoolFull) as caught:
                fill(spool)
            assert caught.value.reason == "SPOOL_FULL"
            assert 40 < spool.stats().events < 64
            with a_spool(path, endpoints) as sender:
                assert sender.drain(30)
            assert fill(spool, 10) == 10  # Another process made room.

    def test_drop_oldest_drops_and_counts(self, path: Path) -> None:
        options = SpoolOptions(max_bytes=SMALL, when_full=WhenFull.DROP_OLDEST, commit_every_s=0.005)
        with Spool(path, options=options) as spool:
            fill(spool, 100)
            stats = spool.stats()
        left = events_in(path)
        assert left == [f"f{number}" for number in range(100 - len(left), 100)]
        assert (stats.dropped, stats.pending.bytes <= SMALL) == (100 - len(left), True)

    def test_block_waits_for_room(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        options = SpoolOptions(max_bytes=SMALL, commit_every_s=0.005)
        with Spool(path, options=options) as spool:
            filling = threading.Thread(target=fill, args=(spool, 100), daemon=True)
            filling.start()
            until(lambda: spool.stats().events > 40)
            filling.join(0.3)
            assert filling.is_alive()
            assert spool.stats().pending.bytes <= SMALL
            with a_spool(path, endpoints) as sender:
                until(lambda: not filling.is_alive())
                assert sender.drain(30)
        assert sorted(set(server.deliveries)) == sorted(f"f{number}" for number in range(100))

    def test_a_blocked_producer_is_let_go_by_close(self, path: Path) -> None:
        spool = Spool(path, options=SpoolOptions(max_bytes=SMALL, commit_every_s=0.005))
        heard: list[BaseException] = []

        def work() -> None:
            try:
                fill(spool)
            except BaseException as error:
                heard.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        until(lambda: spool.stats().pending.bytes > SMALL - 3_000)
        spool.close()
        thread.join(10)
        assert [type(error) for error in heard] == [SpoolClosed]

    async def test_asyncio_goes_on_while_one_task_waits(
        self, path: Path, server: FakeServer, endpoints: Endpoints
    ) -> None:
        with Spool(path, options=SpoolOptions(max_bytes=SMALL, commit_every_s=0.005)) as spool:
            event = UsageEvent("call", "c1", {"text": "x" * 1_000})
            while (await asyncio.to_thread(spool.stats)).pending.bytes < SMALL - 3_000:
                await spool.record_async(event, durable=True)
            waiting = asyncio.gather(*(spool.record_async(event, durable=True) for _ in range(5)))
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not waiting.done()
            with a_spool(path, endpoints):
                await asyncio.wait_for(waiting, 30)
            await spool.flush_async(10)


class TestADiskThatFails:
    def test_is_told_to_who_records_and_what_was_taken_is_kept(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = threading.Event()

        def append_unless_broken(*arguments: object) -> object:
            if broken.is_set():
                raise SpoolUnavailable("no space left on device", reason="DISK_FULL")
            return append(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr("steelyard.spool.writer.append", append_unless_broken)
        with Spool(path, options=QUICK) as spool:
            record(spool, 1)
            spool.flush()
            broken.set()
            record(spool, 1, first=1)
            with pytest.raises(SpoolUnavailable) as caught:
                spool.flush()
            assert caught.value.reason == "DISK_FULL"
            with pytest.raises(SpoolUnavailable):
                record(spool, 1, first=2)
            assert spool.buffered_events == 1
            broken.clear()
            until(lambda: spool.buffered_events == 0)
            record(spool, 1, first=3)
        assert events_in(path) == ["e0", "e1", "e3"]

    def test_close_says_what_it_could_not_write(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object) -> None:
            raise SpoolUnavailable("no space left on device", reason="DISK_FULL")

        monkeypatch.setattr("steelyard.spool.writer.append", fail)
        spool = Spool(path, options=QUICK)
        record(spool, 2)
        with pytest.raises(SteelyardError, match="2 events"):
            spool.close()


class TestSharing:
    def test_two_senders_do_not_send_the_same(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        with Spool(path, options=QUICK) as producer:
            ids = [producer.record("call", "c1", event_id=f"e{number}") for number in range(20_000)]
        first, second = a_spool(path, endpoints), a_spool(path, endpoints)
        first.start()
        second.start()
        assert first.drain(60)
        first.close()
        second.close()
        assert sorted(server.deliveries) == sorted(ids)

    def test_threads_share_one_spool(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        with a_spool(path, endpoints) as spool:
            threads = [threading.Thread(target=record, args=(spool, 500, 500 * part)) for part in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert spool.drain(30)
        assert sorted(server.deliveries) == sorted(f"e{number}" for number in range(2_000))

    def test_close_hands_over_what_was_being_sent(self, path: Path, server: FakeServer, endpoints: Endpoints) -> None:
        with a_spool(path, NOWHERE) as spool:
            ids = record(spool, 3)
            spool.flush()
        with a_spool(path, endpoints) as spool:
            assert spool.drain(5)  # Long before a lease would end.
        assert server.deliveries == ids

    def test_after_close_nothing_is_taken(self, path: Path) -> None:
        spool = Spool(path)
        spool.record("call", "c1", event_id="e0")
        spool.close()
        spool.close()
        with pytest.raises(SpoolClosed):
            spool.record("call", "c1")
        assert events_in(path) == ["e0"]
