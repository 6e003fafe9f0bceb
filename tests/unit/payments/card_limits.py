"""How often a card is tried, whatever its payments ask for: run over fakes and over PostgreSQL."""

from __future__ import annotations

import asyncio

from services.payments.domain.attempt import AttemptState
from services.payments.domain.payment import PaymentState
from services.payments.domain.retries import CARD_WINDOW, DEFAULT_MAX_CARD_TRIES, MAX_SOFT_DECLINES
from services.payments.usecases.begin_attempts import CLAIM
from tests.unit.payments.fakes import Trouble
from tests.unit.payments.world import ACME, DAY, FakeGatewayWorld, issued


async def tries(world: FakeGatewayWorld) -> int:
    return sum(len(attempts) for _, attempts in await world.payments())


class CardLimits:
    """Over all payments of a customer."""

    async def test_a_card_is_tried_so_often_and_then_another_is_needed(self, world: FakeGatewayWorld) -> None:
        """Five payments would make twenty tries."""
        await world.set_method("soft")
        await world.hear(*(issued(f"inv_{number}") for number in range(5)))

        made = [await world.collect_after(test=DAY) for _day in range(MAX_SOFT_DECLINES + 1)]

        assert made == [5, 5, 5, 5, 0]  # The fourth time they are looked at and not tried.
        assert await tries(world) == world.gateway.calls == DEFAULT_MAX_CARD_TRIES
        assert {payment.state for payment, _ in await world.payments()} == {PaymentState.REQUIRES_METHOD}
        await world.set_method("ok")
        await world.collect()
        assert {payment.state for payment, _ in await world.payments()} == {PaymentState.SUCCEEDED}

    async def test_giving_the_same_card_again_does_not_make_more_tries(self, world: FakeGatewayWorld) -> None:
        await world.hear(issued())
        for _round in range(6):
            await world.set_method("soft")
            for _day in range(MAX_SOFT_DECLINES):
                await world.collect_after(test=DAY)
        assert await tries(world) == DEFAULT_MAX_CARD_TRIES
        assert (await world.payment())[0].state is PaymentState.REQUIRES_METHOD

    async def test_tries_count_for_so_long(self, world: FakeGatewayWorld) -> None:
        await world.hear(issued())
        for _round in range(6):
            await world.set_method("soft")
            for _day in range(MAX_SOFT_DECLINES):
                await world.collect_after(test=DAY)

        await world.collect_after(test=CARD_WINDOW)
        await world.set_method("soft")
        await world.collect()

        assert await tries(world) == DEFAULT_MAX_CARD_TRIES + 1

    async def test_captures_do_not_count(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        for number in range(DEFAULT_MAX_CARD_TRIES + 5):
            await world.hear(issued(f"inv_{number}"))
            await world.collect()
        assert {payment.state for payment, _ in await world.payments()} == {PaymentState.SUCCEEDED}

    async def test_a_card_is_not_tried_again_after_a_hard_decline_for_whatever_invoice(
        self, world: FakeGatewayWorld
    ) -> None:
        await world.set_method("hard")
        await world.hear(issued())
        await world.collect()

        await world.hear(issued("inv_2"))
        await world.collect()
        await world.set_method("hard")
        await world.collect_after(test=10 * CARD_WINDOW)

        assert world.gateway.calls == 1
        assert {payment.state for payment, _ in await world.payments()} == {PaymentState.REQUIRES_METHOD}
        await world.set_method("ok")
        await world.collect()
        assert {payment.state for payment, _ in await world.payments()} == {PaymentState.SUCCEEDED}

    async def test_a_token_of_another_customer_is_another_card(self, world: FakeGatewayWorld) -> None:
        for customer_id in ("cust-01", "cust-02"):
            await world.set_method("hard", customer_id=customer_id)
            await world.hear(issued(f"inv_of_{customer_id}", customer_id=customer_id))
            await world.collect()
        assert world.gateway.calls == 2

    async def test_counts_the_tries_under_way_also_those_of_other_processes(self, world: FakeGatewayWorld) -> None:
        """Many invoices are due at once: no more tries begin than the card bears should all be declined."""
        await world.set_method("soft")
        await world.hear(*(issued(f"inv_{number}") for number in range(40)))

        await asyncio.gather(*(world.collector()() for _ in range(4)))

        assert world.gateway.calls == DEFAULT_MAX_CARD_TRIES
        await world.claims_run_out()
        assert world.gateway.calls == DEFAULT_MAX_CARD_TRIES

    async def test_what_has_to_wait_is_tried_when_the_others_are_captured(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.hear(*(issued(f"inv_{number}") for number in range(DEFAULT_MAX_CARD_TRIES + 3)))
        world.gateway.trouble = [Trouble(unanswered=True) for _ in range(DEFAULT_MAX_CARD_TRIES)]
        await world.collect()
        states = [payment.state for payment, _ in await world.payments()]
        assert states.count(PaymentState.PROCESSING) == DEFAULT_MAX_CARD_TRIES
        assert states.count(PaymentState.SCHEDULED) == 3

        await world.collect_after(real=CLAIM)
        await world.claims_run_out()

        payments = await world.payments()
        assert {payment.state for payment, _ in payments} == {PaymentState.SUCCEEDED}
        assert {attempt.state for _, attempts in payments for attempt in attempts} == {AttemptState.SUCCEEDED}
        assert len(await world.gateway.captures(ACME, None)) == DEFAULT_MAX_CARD_TRIES + 3
