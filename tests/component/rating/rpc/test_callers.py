"""Who may call, and reconciliation."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from libs.errors import NotFound, PermissionDenied, Unauthenticated
from libs.rpc import channel, new_api_key
from services.rating.wire.times import period_to_pb
from steelyard.billing.v1 import directory_pb2
from steelyard.common.v1.reconciliation_pb2 import ReconciliationCheck
from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from steelyard.rating.v1 import rate_card_service_pb2 as cards_pb
from steelyard.rating.v1 import reconciliation_service_pb2 as reconciliation_pb
from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceStub
from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceStub
from steelyard.rating.v1.reconciliation_service_pb2_grpc import ReconciliationServiceStub
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, key_of, tenant, violations
from tests.component.rating.running import Running
from tests.component.rating.support import MARCH, TENANT, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


class TestCallers:
    async def test_a_tenant_sees_nothing_of_another(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await cards.CreateRateCard(card_of(name), metadata=AS_ACME)
        await service.send_periods(billing_period(name, customer=name, card=name))
        await service.charge_when("tokens", "0", subscription=name)
        other = tenant("initech")

        card = cards.GetRateCard(cards_pb.GetRateCardRequest(rate_card_id=name), metadata=other)
        found = charges.GetCharges(charges_pb.GetChargesRequest(key=key_of(name)), metadata=other)

        assert isinstance(await failure(card), NotFound)
        assert (await failure(found)).reason == "BILLING_PERIOD_NOT_FOUND"

    async def test_a_tenants_key_reads_charges_but_confirms_none(self, service: Running) -> None:
        key = new_api_key(secrets.token_bytes)
        stored = directory_pb2.ApiKeyEntry(key_id=key.key_id, tenant_id=TENANT, secret_hash=key.secret_hash, version=1)
        await service.js.publish(f"directory.key.{key.key_id}", stored.SerializeToString())
        async with channel(service.config.grpc_listen, key=key.text) as as_customer:
            listed = await _authenticated(RateCardServiceStub(as_customer))
            confirm = ChargeServiceStub(as_customer).ConfirmCharges(
                charges_pb.ConfirmChargesRequest(keys=[key_of("s")])
            )
            refused = await failure(confirm)

        assert listed
        assert (type(refused), refused.reason) == (PermissionDenied, "METHOD_NOT_ALLOWED")

    async def test_without_a_key_there_is_no_answer(self, service: Running) -> None:
        async with channel(service.config.grpc_listen) as anonymous:
            error = await failure(RateCardServiceStub(anonymous).ListRateCards(cards_pb.ListRateCardsRequest()))

        assert isinstance(error, Unauthenticated)


async def _authenticated(stub: RateCardServiceAsyncStub) -> bool:
    """Whether a list was answered; the directory takes a moment to learn of a new key."""
    for _ in range(100):
        try:
            await stub.ListRateCards(cards_pb.ListRateCardsRequest())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
        else:
            return True
    return False


async def test_reconciliation_over_the_wire(service: Running, cards: RateCardServiceAsyncStub, name: str) -> None:
    own = tenant(name)
    await cards.CreateRateCard(card_of(name), metadata=own)
    await service.send_periods(billing_period(name, customer=name, card=name, tenant=name))
    await service.send_windows(window(5, customer=name, tenant=name))
    await service.charge_when("tokens", "5", subscription=name)
    stub = ReconciliationServiceStub(service.channel)
    holding = (await stub.Reconcile(reconciliation_pb.ReconcileRequest(), metadata=own)).checks

    await service.send_windows(window(6, customer=name, tenant=name), lost=True)
    march = reconciliation_pb.ReconcileRequest(period=period_to_pb(MARCH))
    broken = [check for check in (await stub.Reconcile(march, metadata=own)).checks if not check.ok]
    backwards = reconciliation_pb.ReconcileRequest()
    backwards.period.start.CopyFrom(march.period.end)
    backwards.period.end.CopyFrom(march.period.start)

    assert _sides(holding) == {
        "usage windows = usage windows of ingest": ("1", "1", True),
        "period roll-ups = usage windows": ("5", "5", True),
        "quantities by dimensions = period roll-ups": ("0", "0", True),
        "day roll-ups = usage windows": ("5", "5", True),
        "charge quantities = period roll-ups": ("5", "5", True),
        "used of commitments = earlier periods of the term": ("0", "0", True),
        "rated billing periods = billing periods": ("1", "1", True),
    }
    [check] = broken
    assert check.name == "usage windows = usage windows of ingest"
    assert check.differences[0].left.startswith("5 in 1 events")
    assert check.differences[0].right.startswith("6 in 1 events")
    assert violations(await failure(stub.Reconcile(backwards, metadata=own))) == [("period", "INVALID_PERIOD")]


def _sides(checks: Sequence[ReconciliationCheck]) -> dict[str, tuple[str, str, bool]]:
    return {check.name: (check.left, check.right, check.ok) for check in checks}
