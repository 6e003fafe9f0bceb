from __future__ import annotations

import asyncio
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.payments.domain.gateway import NoAnswer
from services.payments.usecases import call_gateway, metrics
from services.payments.usecases.call_gateway import CallGateway
from services.payments.usecases.collect_payments import CHUNK
from services.payments.usecases.collector import collect_until
from tests.unit.payments.domain.test_payment import under_way
from tests.unit.payments.fakes import FakeGateway, MovingClock, Trouble
from tests.unit.payments.world import DAY, REAL_NOW, FakeWorld, issued


class Passes:
    """A collector that finds, or meets, what a test says, and then sets `stopping`."""

    def __init__(self, *passes: int | Exception) -> None:
        self.passes = list(passes)
        self.stopping, self.wake = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> int:
        found = self.passes.pop(0)
        if not self.passes:
            self.stopping.set()
        if isinstance(found, Exception):
            raise found
        return found

    async def run(self) -> None:
        async with asyncio.timeout(5):
            await collect_until(self.stopping, self, wake=self.wake, poll_s=0.01)


class TestCollectUntil:
    async def test_goes_on_until_stopped_and_wakes_the_relay(self) -> None:
        passes = Passes(0, 3, 0, 0)
        await passes.run()
        assert passes.passes == []
        assert passes.wake.is_set()

    async def test_goes_on_at_once_after_a_full_chunk(self) -> None:
        passes = Passes(CHUNK, CHUNK, 0)
        async with asyncio.timeout(5):
            await collect_until(passes.stopping, passes, wake=passes.wake, poll_s=60)
        assert passes.passes == []

    async def test_rests_after_less_so_that_the_next_chunk_is_larger(self) -> None:
        stopping, passes = asyncio.Event(), 0

        async def some() -> int:
            nonlocal passes
            passes += 1
            asyncio.get_running_loop().call_later(0.05, stopping.set)
            return CHUNK - 1

        async with asyncio.timeout(5):
            await collect_until(stopping, some, wake=asyncio.Event(), poll_s=60)
        assert passes == 1

    async def test_waits_out_an_outage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("services.payments.usecases.collector._AFTER_OUTAGE_S", 0.01)
        passes = Passes(ConnectionRefusedError(), ConnectionRefusedError(), 0)
        await passes.run()
        assert passes.passes == []

    async def test_ends_the_process_with_what_no_waiting_can_mend(self) -> None:
        with pytest.raises(KeyError):
            await Passes(KeyError("a mistake"), 0).run()

    async def test_stops_in_the_middle_of_a_rest(self) -> None:
        stopping = asyncio.Event()

        async def nothing_due() -> int:
            asyncio.get_running_loop().call_later(0.01, stopping.set)
            return 0

        async with asyncio.timeout(1):
            await collect_until(stopping, nothing_due, wake=asyncio.Event(), poll_s=60)


class TestCollectPayments:
    async def test_a_call_that_takes_long_does_not_keep_the_outcomes_of_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def until_the_other_is_paid() -> None:
            async with asyncio.timeout(5):
                while True:
                    if "succeeded" in [payment.state for payment, _ in await world.payments()]:
                        return
                    await asyncio.sleep(0.01)

        monkeypatch.setattr("services.payments.usecases.collect_payments._SETTLE_EVERY_S", 0.01)
        world = FakeWorld.make()
        await world.set_method("ok")
        await world.hear(issued(), issued("inv_2"))
        world.gateway.trouble = [Trouble(before=until_the_other_is_paid)]

        await world.collect()

        assert [payment.state for payment, _ in await world.payments()] == ["succeeded", "succeeded"]


class TestCallGateway:
    async def test_does_not_wait_for_ever(self) -> None:
        gateway = FakeGateway(trouble=[Trouble(before=lambda: asyncio.sleep(60))])
        call = CallGateway(gateway, MovingClock(REAL_NOW), timeout_s=0.01)
        assert isinstance(await call(*under_way(), ask=False), NoAnswer)

    async def test_takes_a_mistake_of_the_client_for_no_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        async def mistake() -> None:
            raise KeyError("amount")

        call = CallGateway(FakeGateway(trouble=[Trouble(after=mistake)]), MovingClock(REAL_NOW))
        assert isinstance(await call(*under_way(), ask=False), NoAnswer)
        assert "KeyError" in caplog.text

    async def test_says_when_only_a_person_can_tell(self, caplog: pytest.LogCaptureFixture) -> None:
        call = CallGateway(FakeGateway(), MovingClock(REAL_NOW + DAY))
        with caplog.at_level(logging.CRITICAL):
            assert isinstance(await call(*under_way(), ask=True), NoAnswer)
        assert "pay:acme:pay_1:1" in caplog.text

    async def test_makes_its_span_in_the_trace_of_the_invoice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(call_gateway, "_tracer", provider.get_tracer("test"))
        world = FakeWorld.make()
        await world.set_method("ok")
        await world.hear(issued(trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        await world.collect()

        [span] = exporter.get_finished_spans()

        assert span.name == "payments.attempt"
        assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
        assert dict(span.attributes or {})["steelyard.outcome"] == "Captured"


class TestMetrics:
    async def test_count_what_was_captured_declined_and_not_answered(self) -> None:
        def values() -> list[float]:
            sources = [
                metrics.CAPTURED.source,
                metrics.DECLINED.source.labels("soft"),
                metrics.DECLINED.source.labels("hard"),
                metrics.UNKNOWN.source,
            ]
            return [next(iter(source.collect())).samples[0].value for source in sources]

        before = values()
        world = FakeWorld.make()
        for customer_id, token in {"c1": "ok", "c2": "soft_then_ok", "c3": "hard", "c4": "ok"}.items():
            await world.set_method(token, customer_id=customer_id)
            await world.hear(issued(f"inv_{customer_id}", customer_id=customer_id))
        world.gateway.trouble = [Trouble(unanswered=True)]
        await world.collect_after(test=DAY)
        assert [after - earlier for after, earlier in zip(values(), before, strict=True)] == [1, 1, 1, 1]
