"""ChargeService."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.rating.wire.times import instant_to_pb, period_to_pb
from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, fee, key_of, per_unit, violations
from tests.component.rating.running import Running
from tests.component.rating.support import APRIL, HOUR, MARCH, TOKENS, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


class TestCharges:
    async def _use(self, service: Running, cards: RateCardServiceAsyncStub, name: str, *quantities: str) -> None:
        """A card, a subscription and usage of their own, rated and published."""
        await cards.CreateRateCard(card_of(name, per_unit(), fee()), metadata=AS_ACME)
        await service.send_periods(billing_period(name, customer=name, card=name))
        rows = [
            window(quantity, at=MARCH.start + number * 20 * HOUR, customer=name)
            for number, quantity in enumerate(quantities)
        ]
        if rows:
            await service.send_windows(*rows)
        total = sum(map(Decimal, quantities), Decimal(0))
        await service.charge_when("tokens", f"{total.normalize():f}", subscription=name)

    async def test_charges_of_a_period(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await self._use(service, cards, name, "3", "0.5")

        request = charges_pb.GetChargesRequest(key=key_of(name, MARCH.end - HOUR))
        found = (await charges.GetCharges(request, metadata=AS_ACME)).charges

        assert [(charge.price_id, charge.quantity, charge.amount) for charge in found] == [
            ("tokens", "3.5", "1.75"),
            ("fee", "1", "20"),
        ]
        assert found[0].period == period_to_pb(MARCH)
        assert (found[0].customer_id, found[0].rate_card_id, found[0].display_name) == (name, name, "tokens")

    async def test_current_charges_have_what_has_not_arrived(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await self._use(service, cards, name, "3")
        service.ingest.put(window("0.5", at=MARCH.start + HOUR, customer=name))

        request = charges_pb.GetCurrentChargesRequest(customer_id=name, at_time=instant_to_pb(MARCH.start + HOUR))
        [found] = (await charges.GetCurrentCharges(request, metadata=AS_ACME)).periods

        assert (found.key, found.period) == (key_of(name), period_to_pb(MARCH))
        assert [(charge.price_id, charge.quantity, charge.amount, charge.version) for charge in found.charges] == [
            ("tokens", "3.5", "1.75", 0),
            ("fee", "1", "20", 0),
        ]

    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            (charges_pb.GetCurrentChargesRequest(), ("customer_id", "REQUIRED")),
            (charges_pb.GetCurrentChargesRequest(customer_id="c" * 129), ("customer_id", "TOO_LONG")),
            (
                charges_pb.GetCurrentChargesRequest(customer_id="c", at_time=Timestamp(seconds=-(1 << 60))),
                ("at_time", "INVALID_TIME"),
            ),
        ],
    )
    async def test_current_charges_are_of_a_customer_at_a_time(
        self,
        charges: ChargeServiceAsyncStub,
        request_: charges_pb.GetCurrentChargesRequest,
        expected: tuple[str, str],
    ) -> None:
        assert violations(await failure(charges.GetCurrentCharges(request_, metadata=AS_ACME))) == [expected]

    async def test_an_explanation_adds_up_to_the_charge(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await self._use(service, cards, name, "3", "0.5", "4")

        request = charges_pb.ExplainChargeRequest(key=key_of(name), price_id="tokens")
        explained = await charges.ExplainCharge(request, metadata=AS_ACME)
        request.price_id = "fee"
        flat = await charges.ExplainCharge(request, metadata=AS_ACME)
        request.price_id = "none"

        assert [(day.quantity, day.window_count) for day in explained.usage] == [("3.5", 2), ("4", 1)]
        assert sum(Decimal(day.quantity) for day in explained.usage) == Decimal(explained.charge.quantity)
        assert len(flat.usage) == 0
        assert (await failure(charges.ExplainCharge(request, metadata=AS_ACME))).reason == "CHARGE_NOT_FOUND"

    async def test_a_preview_is_what_would_be_charged(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await self._use(service, cards, name, "7")
        live = (await charges.GetCharges(charges_pb.GetChargesRequest(key=key_of(name)), metadata=AS_ACME)).charges

        request = charges_pb.PreviewChargeRequest(rate_card_id=name, quantities={TOKENS: "7"})
        previewed = (await charges.PreviewCharge(request, metadata=AS_ACME)).charges
        request.quantities[TOKENS] = "seven"
        unreadable = violations(await failure(charges.PreviewCharge(request, metadata=AS_ACME)))
        unknown = charges_pb.PreviewChargeRequest(rate_card_id="unknown")

        for charge in live:
            for field in ("subscription_id", "customer_id", "period", "version", "trace_parent"):
                charge.ClearField(field)
        assert list(previewed) == list(live)
        assert unreadable == [(f"quantities[{TOKENS}]", "NOT_A_NUMBER")]
        assert (await failure(charges.PreviewCharge(unknown, metadata=AS_ACME))).reason == "RATE_CARD_NOT_FOUND"

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            (charges_pb.BillingPeriodKey(), [("key.subscription_id", "REQUIRED")]),
            (charges_pb.BillingPeriodKey(subscription_id="s"), [("key.period_start", "REQUIRED")]),
            (
                charges_pb.BillingPeriodKey(subscription_id="s", period_start=Timestamp(seconds=-(1 << 60))),
                [("key.period_start", "INVALID_TIME")],
            ),
        ],
    )
    async def test_an_impossible_key_is_refused(
        self, charges: ChargeServiceAsyncStub, key: charges_pb.BillingPeriodKey, expected: list[tuple[str, str]]
    ) -> None:
        error = await failure(charges.GetCharges(charges_pb.GetChargesRequest(key=key), metadata=AS_ACME))

        assert violations(error) == expected

    @pytest.mark.parametrize("count", [0, 501])
    async def test_confirmation_takes_1_to_500_keys(self, charges: ChargeServiceAsyncStub, count: int) -> None:
        request = charges_pb.ConfirmChargesRequest(keys=[key_of("s")] * count)

        assert violations(await failure(charges.ConfirmCharges(request, metadata=AS_ACME))) == [
            ("keys", "OUT_OF_RANGE")
        ]

    async def test_confirmation_answers_in_order(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await self._use(service, cards, name)
        request = charges_pb.ConfirmChargesRequest(keys=[key_of("unknown"), key_of(name), key_of(name, APRIL.start)])

        results = (await charges.ConfirmCharges(request, metadata=AS_ACME)).results

        assert [(result.confirmed, result.reason, len(result.charges)) for result in results] == [
            (False, "BILLING_PERIOD_UNKNOWN", 0),
            (True, "", 2),
            (False, "BILLING_PERIOD_UNKNOWN", 0),
        ]
        assert [result.key for result in results] == list(request.keys)

    async def test_confirmation_asks_billing_for_periods_that_are_unknown(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await cards.CreateRateCard(card_of(name, per_unit(), fee()), metadata=AS_ACME)
        service.billing.known.append(billing_period(name, customer=name, card=name))
        await service.send_windows(window("5", customer=name), lost=True)
        request = charges_pb.ConfirmChargesRequest(keys=[key_of(name)])

        service.billing_server.unreadable = True
        unreadable = (await charges.ConfirmCharges(request, metadata=AS_ACME)).results[0]
        service.billing_server.unreadable = False
        service.billing.down = True
        down = (await charges.ConfirmCharges(request, metadata=AS_ACME)).results[0]
        service.billing.down = False
        found = (await charges.ConfirmCharges(request, metadata=AS_ACME)).results[0]

        assert [unreadable.reason, down.reason, found.reason] == ["BILLING_PERIOD_UNKNOWN"] * 2 + [""]
        assert [charge.quantity for charge in found.charges] == ["5", "1"]
