"""Every token of the sandbox gateway, from invoice to money, over its own record in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.payments.clients.sandbox_gateway import SandboxGateway
from services.payments.domain.attempt import AttemptState
from services.payments.domain.gateway import Captured, ChargeRequest, NeverSeen, NoAnswer
from services.payments.domain.payment import PaymentState
from services.payments.usecases.ports import BilledInvoice
from tests.component.payments.conftest import Logins
from tests.unit.payments.fakes import MovingClock
from tests.unit.payments.world import ACME, DAY, REAL_NOW, World, eur, issued

SECOND = timedelta(seconds=1)


async def states(world: World) -> tuple[PaymentState, list[AttemptState], list[str]]:
    payment, attempts = await world.payment()
    return payment.state, [attempt.state for attempt in attempts], [attempt.decline_code for attempt in attempts]


@pytest.fixture
async def world(sandbox: World) -> World:
    await sandbox.hear(issued())
    await sandbox.collect()
    return sandbox


class TestTokens:
    async def test_ok(self, world: World) -> None:
        await world.set_method("tok_ok")
        await world.collect()
        assert await states(world) == (PaymentState.SUCCEEDED, [AttemptState.SUCCEEDED], [""])

    async def test_decline_then_ok(self, world: World) -> None:
        await world.set_method("tok_decline_then_ok")
        await world.collect()
        assert await states(world) == (
            PaymentState.SCHEDULED,
            [AttemptState.DECLINED_SOFT],
            ["insufficient_funds"],
        )
        await world.collect_after(test=DAY)
        assert await states(world) == (
            PaymentState.SUCCEEDED,
            [AttemptState.DECLINED_SOFT, AttemptState.SUCCEEDED],
            ["insufficient_funds", ""],
        )

    @pytest.mark.parametrize(
        ("token", "code"), [("tok_decline_hard", "stolen_card"), ("tok_of_nobody", "no_such_token")]
    )
    async def test_decline_hard(self, world: World, token: str, code: str) -> None:
        await world.set_method(token)
        await world.collect()
        assert await states(world) == (PaymentState.REQUIRES_METHOD, [AttemptState.DECLINED_HARD], [code])
        await world.set_method("tok_ok")
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    @pytest.mark.parametrize("token", ["tok_timeout_after_charge", "tok_timeout_before_charge"])
    async def test_timeouts(self, world: World, token: str) -> None:
        await world.set_method(token)
        await world.collect()
        assert await states(world) == (PaymentState.PROCESSING, [AttemptState.UNKNOWN], [""])
        before = await world.gateway.captures(ACME, ["inv_1"])
        assert len(before) == (token == "tok_timeout_after_charge")

        await world.collect_after(real=SECOND)

        assert await states(world) == (PaymentState.SUCCEEDED, [AttemptState.SUCCEEDED], [""])
        [capture] = await world.gateway.captures(ACME, None)
        _, [attempt] = await world.payment()
        assert (capture.charge_id, capture.idempotency_key) == (attempt.gateway_charge_id, attempt.idempotency_key)
        paid = BilledInvoice("inv_1", "INV-inv_1", eur(1999), "paid")
        assert all(check.ok for check in await world.reconcile(paid))


class TestTheGatewayItself:
    """What is asked of any gateway."""

    REQUEST = ChargeRequest("key", "tok_ok", eur(5), "inv_1")

    @pytest.fixture
    def gateway(self, logins: Logins) -> SandboxGateway:
        return SandboxGateway(logins.worker, MovingClock(REAL_NOW))

    async def test_charges_once_under_a_key(self, gateway: SandboxGateway) -> None:
        first = await gateway.charge(ACME, self.REQUEST)
        assert isinstance(first, Captured)
        assert await gateway.charge(ACME, self.REQUEST) == await gateway.find(ACME, "key") == first
        assert len(await gateway.captures(ACME, None)) == 1

    async def test_refuses_another_amount_under_a_key(self, gateway: SandboxGateway) -> None:
        await gateway.charge(ACME, self.REQUEST)
        assert isinstance(await gateway.charge(ACME, ChargeRequest("key", "tok_ok", eur(6), "inv_1")), NoAnswer)
        [capture] = await gateway.captures(ACME, None)
        assert capture.amount == eur(5)

    async def test_knows_nothing_of_other_keys_tenants_and_references(self, gateway: SandboxGateway) -> None:
        await gateway.charge(ACME, self.REQUEST)
        assert await gateway.find(ACME, "another key") == NeverSeen()
        assert await gateway.find("beta", "key") == NeverSeen()
        assert await gateway.captures("beta", None) == await gateway.captures(ACME, ["inv_2"]) == []

    async def test_does_not_answer_while_its_record_is_away(self, logins: Logins) -> None:
        from libs.database import Database

        nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing", "worker", application_name="test")
        gateway = SandboxGateway(nowhere, MovingClock(REAL_NOW))
        assert isinstance(await gateway.charge(ACME, self.REQUEST), NoAnswer)
        assert isinstance(await gateway.find(ACME, "key"), NoAnswer)
        await nowhere.dispose()
