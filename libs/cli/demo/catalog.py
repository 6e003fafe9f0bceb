"""The demo's meters and rate card."""

from __future__ import annotations

from libs.cli.demo.workload import EVENT_TYPE
from steelyard.ingest.v1 import meter_pb2
from steelyard.rating.v1 import rate_card_pb2 as pb

RATE_CARD_ID = "llm-api"
CURRENCY = "USD"


def meters() -> list[meter_pb2.Meter]:
    """Return the four meters."""
    sums = {
        "llm_input_tokens": "input_tokens",
        "llm_output_tokens": "output_tokens",
        "llm_total_tokens": "input_tokens + output_tokens",
    }
    requests = meter_pb2.Meter(
        meter_id="llm_requests", event_type=EVENT_TYPE, aggregation=meter_pb2.AGGREGATION_COUNT, unit="requests"
    )
    return [requests] + [
        meter_pb2.Meter(
            meter_id=meter_id,
            event_type=EVENT_TYPE,
            aggregation=meter_pb2.AGGREGATION_SUM,
            expression=expression,
            unit="tokens",
        )
        for meter_id, expression in sums.items()
    ]


def rate_card() -> pb.RateCard:
    """Return the rate card: a platform fee, and four ways to price usage."""
    graduated = pb.GraduatedPrice(
        tiers=[
            pb.Tier(up_to="100000", unit_amount="0"),
            pb.Tier(up_to="1000000", unit_amount="0.0000025"),
            pb.Tier(unit_amount="0.000002"),
        ]
    )
    volume = pb.VolumePrice(
        tiers=[pb.Tier(up_to="2000000", unit_amount="0.0000001"), pb.Tier(unit_amount="0.00000008")]
    )
    return pb.RateCard(
        rate_card_id=RATE_CARD_ID,
        display_name="LLM API",
        currency=CURRENCY,
        prices=[
            pb.Price(price_id="platform_fee", flat=pb.FlatPrice(amount="20.00")),
            pb.Price(
                price_id="requests",
                meter_id="llm_requests",
                package=pb.PackagePrice(package_size="100", package_amount="0.05"),
            ),
            pb.Price(price_id="input_tokens", meter_id="llm_input_tokens", graduated=graduated),
            pb.Price(
                price_id="output_tokens", meter_id="llm_output_tokens", per_unit=pb.PerUnitPrice(unit_amount="0.00001")
            ),
            pb.Price(price_id="total_tokens", meter_id="llm_total_tokens", volume=volume),
        ],
    )
