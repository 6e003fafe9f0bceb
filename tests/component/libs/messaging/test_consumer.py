from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from libs.embedded.nats_server import EmbeddedNats
from libs.errors import Unavailable
from libs.messaging.connection import connect
from libs.messaging.consumer import PullConsumer
from libs.messaging.delivery import Delivery
from libs.messaging.errors import FloorBeyondStream, UnreadableMessage
from libs.messaging.floor import AckFloor, ack_floor
from libs.messaging.publisher import JetStreamPublisher
from libs.messaging.streams import StreamDefinition, ensure_streams
from tests.component.libs.messaging.conftest import Recorder, consuming, until

PROMISED = StreamDefinition(name="promised", subjects=("promised.>",))


async def _publish(js: JetStreamContext, stream: str, numbers: Sequence[int]) -> None:
    publisher = JetStreamPublisher(js)
    for chunk in range(0, len(numbers), 100):
        await asyncio.gather(
            *(
                publisher.publish(f"{stream}.n", str(number).encode(), f"acme:{number}", {})
                for number in numbers[chunk : chunk + 100]
            )
        )


async def _floor(js: JetStreamContext, stream: str) -> AckFloor:
    return await ack_floor(js, stream, "consumer")


def _numbers(recorder: Recorder) -> list[int]:
    return sorted(int(data) for data in recorder.handled)


class TestDelivery:
    async def test_a_backlog_is_handled_in_large_batches_and_acknowledged(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        await _publish(js, stream.name, range(2_000))
        recorder = Recorder()

        async with consuming(js, stream.name, recorder, batch=500):
            await until(lambda: len(recorder.handled) == 2_000)

        assert _numbers(recorder) == list(range(2_000))
        assert max(len(batch) for batch in recorder.batches) <= 500
        assert len(recorder.batches) <= 40
        floor = await _floor(js, stream.name)
        assert (floor.consumer_stream_seq, floor.num_pending, floor.num_ack_pending) == (2_000, 0, 0)

    async def test_an_idle_consumer_hands_over_a_message_without_delay(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        recorder = Recorder()
        waits = []
        async with consuming(js, stream.name, recorder):
            await asyncio.sleep(1.5)  # An idle fetch has timed out, which is what makes nats-py stall.
            for number in range(20):
                started = time.monotonic()
                await _publish(js, stream.name, [number])
                await until(lambda number=number: len(recorder.handled) == number + 1)  # type: ignore[misc]
                waits.append(time.monotonic() - started)

        assert sorted(waits)[10] < 0.2, waits

    async def test_a_delivery_says_where_it_comes_from(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        recorder = Recorder()
        await JetStreamPublisher(js).publish(f"{stream.name}.a", b"1", "acme:1", {"traceparent": "x"})

        async with consuming(js, stream.name, recorder):
            await until(lambda: bool(recorder.handled))

        [[delivery]] = recorder.batches
        epoch = (await js.stream_info(stream.name)).created
        assert (delivery.subject, delivery.data, delivery.msg_id) == (f"{stream.name}.a", b"1", "acme:1")
        assert delivery.headers["traceparent"] == "x"
        assert (delivery.stream, delivery.stream_seq, delivery.num_delivered) == (stream.name, 1, 1)
        assert delivery.stream_epoch == epoch

    async def test_only_the_subjects_asked_for_are_delivered(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        recorder = Recorder()
        publisher = JetStreamPublisher(js)
        for token in ("a", "b", "c"):
            await publisher.publish(f"{stream.name}.{token}", token.encode(), f"acme:{token}", {})

        async with consuming(js, stream.name, recorder, subjects=[f"{stream.name}.a", f"{stream.name}.c"]):
            await until(lambda: len(recorder.handled) == 2)

        assert recorder.handled == [b"a", b"c"]

    async def test_two_processes_share_the_work(
        self, js: JetStreamContext, stream: StreamDefinition, nats_url: str
    ) -> None:
        other = await connect(nats_url, name="other")
        first, second = Recorder(), Recorder()
        async with (
            consuming(js, stream.name, first, batch=20),
            consuming(other.jetstream(), stream.name, second, batch=20),
        ):
            await _publish(js, stream.name, range(500))
            await until(lambda: len(first.handled) + len(second.handled) == 500)
        await other.close()

        assert sorted(_numbers(first) + _numbers(second)) == list(range(500))

    async def test_a_slow_handler_keeps_its_messages(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        deliveries: list[int] = []

        async def slow(batch: Sequence[Delivery]) -> None:
            deliveries.extend(delivery.num_delivered for delivery in batch)
            await asyncio.sleep(3)

        await _publish(js, stream.name, range(3))
        async with consuming(js, stream.name, Recorder(), handler=slow, ack_wait_s=1.0):
            await until(lambda: len(deliveries) >= 3)
            await asyncio.sleep(3.5)

        assert deliveries == [1, 1, 1]

    async def test_what_a_dying_process_was_handling_is_delivered_again(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        handling = asyncio.Event()

        async def never_commits(batch: Sequence[Delivery]) -> None:
            handling.set()
            await asyncio.Event().wait()

        dying = PullConsumer(
            js,
            stream=stream.name,
            durable="consumer",
            subjects=[f"{stream.name}.>"],
            handler=never_commits,
            park=Recorder().park,
            ack_wait_s=1.0,
        )
        task = asyncio.create_task(dying.run(asyncio.Event()))
        await _publish(js, stream.name, range(3))
        await handling.wait()
        task.cancel()

        recorder = Recorder()
        async with consuming(js, stream.name, recorder, ack_wait_s=1.0):
            await until(lambda: set(_numbers(recorder)) == {0, 1, 2})
        assert (await _floor(js, stream.name)).consumer_stream_seq == 3

    async def test_stopping_finishes_and_acknowledges_the_batch(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        started, may_end = asyncio.Event(), asyncio.Event()

        async def handler(batch: Sequence[Delivery]) -> None:
            started.set()
            await may_end.wait()

        await _publish(js, stream.name, range(3))
        async with consuming(js, stream.name, Recorder(), handler=handler, batch=2):
            await started.wait()
            asyncio.get_running_loop().call_later(0.3, may_end.set)

        floor = await _floor(js, stream.name)
        assert (floor.consumer_stream_seq, floor.num_pending) == (2, 1)


class TestFailures:
    async def test_a_poison_message_does_not_stall_the_others_and_is_parked_in_the_end(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        def fail(deliveries: Sequence[Delivery]) -> None:
            if any(delivery.data == b"13" for delivery in deliveries):
                raise ZeroDivisionError

        recorder = Recorder(fail=fail)
        await _publish(js, stream.name, range(100))

        async with consuming(js, stream.name, recorder, max_attempts=3):
            await until(lambda: len(recorder.handled) == 99)
            assert not recorder.parked
            await until(lambda: bool(recorder.parked))

        assert _numbers(recorder) == [number for number in range(100) if number != 13]
        [(parked, error)] = recorder.parked
        assert (parked.data, parked.num_delivered) == (b"13", 3)
        assert isinstance(error, ZeroDivisionError)
        assert (await _floor(js, stream.name)).consumer_stream_seq == 100

    async def test_an_unreadable_message_is_parked_at_once(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        def fail(deliveries: Sequence[Delivery]) -> None:
            if any(delivery.data == b"1" for delivery in deliveries):
                raise UnreadableMessage("not a protobuf message")

        recorder = Recorder(fail=fail)
        await _publish(js, stream.name, range(3))

        async with consuming(js, stream.name, recorder):
            await until(lambda: bool(recorder.parked) and len(recorder.handled) == 2)

        assert [(parked.data, parked.num_delivered) for parked, _ in recorder.parked] == [(b"1", 1)]
        assert (await _floor(js, stream.name)).consumer_stream_seq == 3

    async def test_a_message_that_cannot_be_parked_stays_in_the_stream(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        recorder = Recorder(fail=_raise(UnreadableMessage("no")))
        parkings = 0

        async def park(delivery: Delivery, error: Exception) -> None:
            nonlocal parkings
            parkings += 1
            if parkings == 1:
                raise OSError("database is away")
            await recorder.park(delivery, error)

        await _publish(js, stream.name, [1])
        async with consuming(js, stream.name, recorder, park=park):
            await until(lambda: bool(recorder.parked))

        assert recorder.parked[0][0].num_delivered == 2

    async def test_an_outage_is_waited_for_and_never_parks(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        away = True

        def fail(deliveries: Sequence[Delivery]) -> None:
            if away:
                raise Unavailable("the database is away")

        recorder = Recorder(fail=fail)
        await _publish(js, stream.name, range(10))
        async with consuming(js, stream.name, recorder, max_attempts=1):
            await until(lambda: recorder.tries > 25)  # Held, bisected, redelivered.
            away = False
            await until(lambda: len(recorder.handled) == 10)

        assert not recorder.parked
        assert _numbers(recorder) == list(range(10))

    async def test_a_short_outage_costs_no_redelivery(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        recorder = Recorder()

        def fail(deliveries: Sequence[Delivery]) -> None:
            if recorder.tries < 3:
                raise ConnectionRefusedError

        recorder.fail = fail
        await _publish(js, stream.name, range(10))
        async with consuming(js, stream.name, recorder):
            await until(lambda: len(recorder.handled) == 10)

        assert {delivery.num_delivered for batch in recorder.batches for delivery in batch} == {1}

    async def test_one_message_with_lasting_trouble_does_not_stall_the_others(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        def fail(deliveries: Sequence[Delivery]) -> None:
            if any(delivery.data == b"0" for delivery in deliveries):
                raise Unavailable("the gateway of this tenant is away")

        recorder = Recorder(fail=fail)
        await _publish(js, stream.name, range(50))
        async with consuming(js, stream.name, recorder, max_attempts=1):
            await until(lambda: len(recorder.handled) == 49)
            await _publish(js, stream.name, range(50, 100))
            await until(lambda: len(recorder.handled) == 99)

        assert not recorder.parked


class TestLosses:
    async def test_a_killed_and_restarted_server_loses_nothing(self, own_nats: EmbeddedNats) -> None:
        client = await connect(own_nats.url, name="test")
        js = client.jetstream()
        await ensure_streams(js, [PROMISED])
        recorder = Recorder()

        async with consuming(js, PROMISED.name, recorder, ack_wait_s=2.0):
            publishing = asyncio.create_task(_publish(js, PROMISED.name, range(3_000)))
            for _ in range(2):
                await asyncio.sleep(0.3)
                own_nats.kill()
                await asyncio.to_thread(own_nats.start)
            await publishing
            await until(lambda: set(_numbers(recorder)) == set(range(3_000)), timeout_s=40)

            async def settled() -> bool:
                floor = await _floor(js, PROMISED.name)
                return floor.consumer_stream_seq == floor.stream_last_seq == 3_000

            await until(settled)
        await client.close()

    async def test_waits_for_its_stream_and_follows_it_into_a_new_life(self, own_nats: EmbeddedNats) -> None:
        client = await connect(own_nats.url, name="test")
        js = client.jetstream()
        recorder = Recorder()

        async with consuming(js, PROMISED.name, recorder):
            await asyncio.sleep(0.5)
            for life in range(2):
                await ensure_streams(js, [PROMISED])
                await _publish(js, PROMISED.name, [life])
                await until(lambda life=life: len(recorder.handled) == life + 1)  # type: ignore[misc]
                await js.delete_stream(PROMISED.name)
        await client.close()

        first, second = (batch[0] for batch in recorder.batches)
        assert (first.stream_seq, second.stream_seq) == (1, 1)
        assert first.stream_epoch < second.stream_epoch

    async def test_a_deleted_consumer_is_made_again(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        recorder = Recorder()
        async with consuming(js, stream.name, recorder):
            await _publish(js, stream.name, [1])
            await until(lambda: recorder.handled == [b"1"])
            await js.delete_consumer(stream.name, "consumer")
            await _publish(js, stream.name, [2])
            await until(lambda: b"2" in recorder.handled)

    async def test_a_consumer_behind_the_end_of_its_stream_begins_anew(self, own_nats: EmbeddedNats) -> None:
        await _lose_the_end_of_the_stream(own_nats)
        client = await connect(own_nats.url, name="test")
        js = client.jetstream()
        with pytest.raises(FloorBeyondStream):
            await _floor(js, PROMISED.name)

        recorder = Recorder()
        async with consuming(js, PROMISED.name, recorder):
            await _publish(js, PROMISED.name, [100])
            await until(lambda: b"100" in recorder.handled)
        await client.close()

    async def test_an_existing_consumer_gets_the_new_settings(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        old = ConsumerConfig(name="consumer", durable_name="consumer", filter_subjects=[f"{stream.name}.>"])
        await js.add_consumer(stream.name, old)

        async with consuming(js, stream.name, Recorder(), ack_wait_s=7.0, batch=10):

            async def updated() -> bool:
                config = (await js.consumer_info(stream.name, "consumer")).config
                return (config.ack_wait, config.max_ack_pending, config.max_deliver) == (7.0, 20, -1)

            await until(updated)


async def _lose_the_end_of_the_stream(server: EmbeddedNats) -> None:
    """Acknowledge ten messages, then damage the sixth on disk: the server silently forgets it and those behind it."""
    client = await connect(server.url, name="before")
    js = client.jetstream()
    await ensure_streams(js, [PROMISED])
    await _publish(js, PROMISED.name, range(10))
    recorder = Recorder()
    async with consuming(js, PROMISED.name, recorder):
        await until(lambda: len(recorder.handled) == 10)
    await client.close()
    server.stop()
    block = server.directory / "jetstream" / "jetstream" / "$G" / "streams" / PROMISED.name / "msgs" / "1.blk"
    content = bytearray(block.read_bytes())
    position = 0
    for _ in range(5):
        (length,) = struct.unpack_from("<I", content, position)
        position += length & 0x7FFF_FFFF  # The top bit says that the record has headers.
    content[position + 1] ^= 0x40
    block.write_bytes(content)
    await asyncio.to_thread(server.start)


def _raise(error: Exception) -> Callable[[Sequence[Delivery]], None]:
    def fail(deliveries: Sequence[Delivery]) -> None:
        raise error

    return fail
