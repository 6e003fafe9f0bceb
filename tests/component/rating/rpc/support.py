"""What tests of rating's RPCs share."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from datetime import datetime
from typing import cast

import pytest

from libs.errors import InvalidInput, ServiceError
from libs.rpc import as_tenant, typed_errors
from services.rating.wire.times import instant_to_pb
from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from steelyard.rating.v1 import rate_card_pb2 as card_pb
from steelyard.rating.v1 import rate_card_service_pb2 as cards_pb
from tests.component.rating.support import MARCH, TENANT, TOKENS

Metadata = tuple[tuple[str, str | bytes], ...]


def tenant(tenant_id: str) -> Metadata:
    """Metadata of a call for a tenant."""
    return cast(Metadata, tuple(as_tenant(tenant_id)))


AS_ACME = tenant(TENANT)


def per_unit(price_id: str = "tokens", amount: str = "0.5", meter_id: str = TOKENS) -> card_pb.Price:
    return card_pb.Price(price_id=price_id, meter_id=meter_id, per_unit=card_pb.PerUnitPrice(unit_amount=amount))


def fee() -> card_pb.Price:
    return card_pb.Price(price_id="fee", flat=card_pb.FlatPrice(amount="20"))


def card_of(card_id: str, *prices: card_pb.Price, at: datetime | None = None) -> cards_pb.CreateRateCardRequest:
    card = card_pb.RateCard(rate_card_id=card_id, currency="USD", prices=prices or [per_unit()])
    if at is not None:
        card.effective_time.CopyFrom(instant_to_pb(at))
    return cards_pb.CreateRateCardRequest(
        request_id=str(uuid.uuid4()), rate_card=card, allow_past_effective_time=at is not None
    )


def key_of(subscription: str, at: datetime = MARCH.start) -> charges_pb.BillingPeriodKey:
    return charges_pb.BillingPeriodKey(subscription_id=subscription, period_start=instant_to_pb(at))


async def failure(call: Awaitable[object]) -> ServiceError:
    """The typed error that a call ends with."""
    with pytest.raises(ServiceError) as caught, typed_errors():
        await call
    return caught.value


def violations(error: ServiceError) -> list[tuple[str, str]]:
    assert isinstance(error, InvalidInput)
    return [(violation.field, violation.reason) for violation in error.violations]
