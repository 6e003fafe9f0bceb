"""Previews of parts of billing periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from steelyard.rating.v1 import rate_card_pb2 as card_pb
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, violations

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


def span(start: str, end: str) -> period_pb2.Period:
    stamps = [Timestamp(), Timestamp()]
    for stamp, text in zip(stamps, (start, end), strict=True):
        stamp.FromJsonString(text)
    return period_pb2.Period(start=stamps[0], end=stamps[1])


async def test_a_preview_of_a_part_has_its_share(
    cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub
) -> None:
    price = card_pb.Price(price_id="fee", flat=card_pb.FlatPrice(amount="31"), proration=card_pb.PRORATION_BY_DAY)
    created = (await cards.CreateRateCard(card_of("prorated", price), metadata=AS_ACME)).rate_card
    part = charges_pb.PartOfBillingPeriod(
        period=span("2026-03-14T23:00:00Z", "2026-03-31T22:00:00Z"),
        whole_period=span("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        time_zone="Europe/Berlin",
    )
    request = charges_pb.PreviewChargeRequest(rate_card_id="prorated", part=part)
    (charge,) = (await charges.PreviewCharge(request, metadata=AS_ACME)).charges

    assert created.prices[0].proration == card_pb.PRORATION_BY_DAY
    assert charge.amount == "17"
    assert [(item.kind, item.quantity, item.per, item.label) for item in charge.parts] == [
        ("prorated", "17", "31", "days"),
        ("flat", "1", "", ""),
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(charges_pb.PartOfBillingPeriod(), ("part.period", "INVALID_PERIOD"), id="no-period"),
        pytest.param(
            charges_pb.PartOfBillingPeriod(period=span("2026-03-14T23:00:00Z", "2026-03-31T22:00:00Z")),
            ("part.whole_period", "INVALID_PERIOD"),
            id="no-whole-period",
        ),
        pytest.param(
            charges_pb.PartOfBillingPeriod(
                period=span("2026-03-14T23:00:00Z", "2026-03-31T22:00:00Z"),
                whole_period=span("2026-03-15T23:00:00Z", "2026-03-31T22:00:00Z"),
            ),
            ("part.period", "OUT_OF_RANGE"),
            id="longer-than-the-whole",
        ),
        pytest.param(
            charges_pb.PartOfBillingPeriod(
                period=span("2026-03-14T23:00:00Z", "2026-03-31T22:00:00Z"),
                whole_period=span("2026-02-14T23:00:00Z", "2026-03-31T22:00:00Z"),
                time_zone="Moon",
            ),
            ("part.time_zone", "UNKNOWN_TIME_ZONE"),
            id="no-zone",
        ),
    ],
)
async def test_an_impossible_part_is_refused(
    charges: ChargeServiceAsyncStub, part: charges_pb.PartOfBillingPeriod, expected: tuple[str, str]
) -> None:
    request = charges_pb.PreviewChargeRequest(rate_card_id="standard", part=part)
    error = await failure(charges.PreviewCharge(request, metadata=AS_ACME))

    assert violations(error) == [expected]
