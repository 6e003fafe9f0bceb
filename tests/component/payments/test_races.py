"""Two transactions at a time, each in every order: nobody is forgotten, nothing deadlocks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import pytest

from services.payments.domain.method import PaymentMethod
from services.payments.domain.payment import PaymentNotCancelable, PaymentState
from services.payments.domain.retries import DEFAULT_MAX_CARD_TRIES
from services.payments.usecases.ports import PaymentKey, Task, TaskKind
from tests.unit.payments.fakes import Claimed
from tests.unit.payments.world import ACME, DAY, REAL_NOW, TEST_NOW, FakeGatewayWorld, issued, voided

WAITS_S = 0.15


@asynccontextmanager
async def meanwhile(work: Coroutine[object, object, object]) -> AsyncIterator[asyncio.Task[object]]:
    """Run something that has to wait for a lock that is held here; it goes on when the block ends."""
    task = asyncio.create_task(work)
    await asyncio.sleep(WAITS_S)
    assert not task.done()
    yield task


@pytest.fixture
async def key(world: FakeGatewayWorld) -> PaymentKey:
    """A payment that is due, of a customer without a method."""
    await world.hear(issued())
    payment, _ = await world.payment()
    return ACME, payment.payment_id


class TestAMethodIsSetWhileItIsLookedFor:
    async def test_the_collector_waits_for_it(self, world: FakeGatewayWorld, key: PaymentKey) -> None:
        async with world.api(ACME) as work:
            await work.methods.put(PaymentMethod(ACME, "pm_1", "cust-01", "ok", REAL_NOW))
            assert await work.payments.lock_waiting(ACME, "cust-01") == []
            async with meanwhile(world.collect()) as collecting:
                pass
        await collecting
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_it_waits_for_the_collector(self, world: FakeGatewayWorld, key: PaymentKey) -> None:
        async with world.worker(ACME) as work:
            [item] = await work.payments.lock_open([key])
            assert item.gateway_token == ""
            async with meanwhile(world.set_method("ok")) as setting:
                await work.payments.save([item.payment.without_method()])
                await work.tasks.remove([key])
        await setting
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED


class TestAPaymentIsCancelledWhileItIsCollected:
    async def test_before_the_attempt(self, world: FakeGatewayWorld, key: PaymentKey) -> None:
        await world.set_method("ok")
        async with world.api(ACME) as work:
            await work.invoices.forbid(ACME, "inv_1")
            payment = await work.payments.lock_of_invoice(ACME, "inv_1")
            assert payment is not None
            async with meanwhile(world.collect()) as collecting:
                await work.payments.save([payment.cancel()])
                await work.tasks.remove([key])
        await collecting
        assert (await world.payment())[0].state is PaymentState.CANCELED
        assert world.gateway.calls == 0

    async def test_after_the_attempt_has_begun(self, world: FakeGatewayWorld, key: PaymentKey) -> None:
        async with world.worker(ACME) as work:
            [item] = await work.payments.lock_open([key])
            async with meanwhile(world.cancel()) as cancelling:
                payment, attempt = item.payment.begin(token="ok", now=REAL_NOW, tenant_now=TEST_NOW)
                await work.payments.save([payment])
                await work.attempts.add([(ACME, attempt)])
                await work.tasks.put({key: Task(TaskKind.ASK, REAL_NOW)})
        with pytest.raises(PaymentNotCancelable):
            await cancelling
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_while_the_outcome_is_stored(self, world: FakeGatewayWorld, key: PaymentKey) -> None:
        """Both need the invoice and the payment: in another order than this they would wait for each other."""
        async with world.worker(ACME) as work:
            [item] = await work.payments.lock_open([key])
            async with meanwhile(world.cancel()) as cancelling:
                await work.invoices.capture([item.payment])
        await cancelling


class TestAnInvoiceIsIssuedWhileItIsForbidden:
    async def test_the_fact_waits_and_is_not_collected(self, world: FakeGatewayWorld) -> None:
        async with world.api(ACME) as work:
            await work.invoices.forbid(ACME, "inv_1")
            assert await work.payments.lock_of_invoice(ACME, "inv_1") is None
            async with meanwhile(world.hear(issued())) as hearing:
                pass
        await hearing
        assert (await world.payment())[0].state is PaymentState.CANCELED

    async def test_two_consumers_take_a_fact_once(self, world: FakeGatewayWorld) -> None:
        facts = [issued(f"inv_{number}") for number in range(50)]
        shuffled = [random.Random(seed).sample(facts, len(facts)) for seed in range(4)]
        news = await asyncio.gather(*(world.hear(*batch) for batch in shuffled))
        assert sum(news) == len(await world.payments()) == 50


class TestACardIsTriedByManyProcesses:
    async def test_they_count_together(self, world: FakeGatewayWorld) -> None:
        """Each has claimed other payments of the customer, and all begin at the same moment."""
        await world.set_method("soft")
        await world.hear(*(issued(f"inv_{number}") for number in range(40)))
        keys = sorted(payment.key for payment, _ in await world.payments())
        claims = [Claimed(dict.fromkeys(keys[n::8], TaskKind.COLLECT)) for n in range(8)]

        await asyncio.gather(*(world.collector(due=claim)() for claim in claims))

        assert world.gateway.calls == DEFAULT_MAX_CARD_TRIES


class TestEverythingAtOnce:
    async def test_ends_in_order(self, world: FakeGatewayWorld) -> None:
        """No deadlock (it would be raised here), no over-capture, nothing left behind."""
        chance = random.Random(7)
        invoices = [issued(f"inv_{n}", customer_id=f"cust-{n % 5}", minor_units=1 + n) for n in range(60)]
        refused: list[str] = []

        async def cancel_and_void(number: int) -> None:
            try:
                await world.cancel(f"inv_{number}")
                await world.hear(voided(f"inv_{number}", minor_units=1 + number))
            except PaymentNotCancelable:
                refused.append(f"inv_{number}")

        async def collect() -> None:
            for _ in range(6):
                await world.collector()()
                world.times.tests[ACME] += DAY
                await asyncio.sleep(0)

        work: list[Coroutine[object, object, object]] = [world.hear(*chance.sample(invoices, 30)) for _ in range(2)]
        work += [world.hear(invoice) for invoice in invoices]
        work += [
            world.set_method(chance.choice(["ok", "soft", "hard"]), customer_id=f"cust-{n % 5}") for n in range(15)
        ]
        others = [cancel_and_void(number) for number in range(0, 60, 3)] + [collect() for _ in range(3)]
        mixed = [*work, *others]
        chance.shuffle(mixed)
        await asyncio.gather(*mixed)

        for number in range(5):
            await world.set_method("ok", customer_id=f"cust-{number}")
        for _ in range(3):
            await world.collect_after(real=DAY, test=DAY)
        payments = [payment for payment, _ in await world.payments()]
        assert len(payments) == 60
        succeeded = {payment.invoice_id for payment in payments if payment.state is PaymentState.SUCCEEDED}
        canceled = {payment.invoice_id for payment in payments if payment.state is PaymentState.CANCELED}
        assert canceled == {f"inv_{number}" for number in range(0, 60, 3)} - set(refused)
        assert succeeded | canceled == {invoice.invoice_id for invoice in invoices}
        assert {capture.reference for capture in await world.gateway.captures(ACME, None)} == succeeded
        balances = await world.balances()
        assert sum(balances.values()) == balances["receivable"] == 0
        assert await world.claim() == {}


class TestAPaymentIsReadWhileItIsCollected:
    async def test_state_and_attempts_are_of_one_moment(self, world: FakeGatewayWorld, key: PaymentKey) -> None:
        """A payment that is scheduled and has an attempt that is not over was never there."""
        await world.set_method("soft")
        torn: list[object] = []

        async def look() -> None:
            while not done.is_set():
                payment, attempts = await world.payment()
                is_processing = payment.state is PaymentState.PROCESSING
                if len(attempts) != payment.attempt_count or is_processing == all(a.state.final for a in attempts):
                    torn.append((payment, attempts))

        done = asyncio.Event()
        looking = [asyncio.create_task(look()) for _ in range(2)]
        for _ in range(15):
            await world.set_method("soft")
            await world.collect_after(test=DAY)
        done.set()
        await asyncio.gather(*looking)
        assert torn == []
