"""What the cards of cards.yaml come to, as it is stored and published.

`python -m tests.unit.rating.golden.golden_charges` writes charges.json anew. That changes what is charged for the same
usage: raise ENGINE_VERSION with it, and say so in the CHANGELOG.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from libs.cli.yaml_messages import read_documents
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.commitment_term import TermSoFar, committed_periods
from services.rating.domain.period_charge import PeriodCharge, charges_of_period
from services.rating.domain.pricing import ENGINE_VERSION
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, MeterUsage, UsageDigest
from services.rating.domain.usage_by_window import MeterCut, WindowCut, WindowQuantity, place_at
from services.rating.domain.validation import check_rate_card
from services.rating.wire.card_reading import Reading
from services.rating.wire.charges import charge_content
from services.rating.wire.rate_cards import rate_card_from_pb
from steelyard.rating.v1 import charge_pb2, rate_card_pb2

HERE = Path(__file__).parent
CHARGES = HERE / "charges.json"
QUANTITIES = ("0", "1", "10", "100", "100.000000000001", "1000.5", "1001", "123456789.123456", "99999999999999999999")
USED = Decimal("600.25")
"""Of commitments over several billing periods, before the last one."""
PERIOD = BillingPeriod(
    PeriodKey("acme", "sub-1", datetime(2026, 1, 1, tzinfo=UTC)), datetime(2026, 2, 1, tzinfo=UTC), "cust-1", "card", 1
)

USED_AT = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, 12, tzinfo=UTC))


def cards() -> list[RateCard]:
    """The cards; what is wrong with one is an error here."""
    found = []
    for document in read_documents((HERE / "cards.yaml").read_text(encoding="utf-8"), rate_card_pb2.RateCard):
        reading = Reading()
        card = rate_card_from_pb(document.message, reading)
        if wrong := [*reading.violations, *check_rate_card(card)]:
            raise ValueError(wrong)
        found.append(card)
    return found


def charges() -> Iterator[tuple[str, list[PeriodCharge]]]:
    """By quantity: what the prices of all cards come to, those with commitments over several billing periods also in
    the last one. One unit is of a European gold customer, just after midnight; the rest of others, on a Saturday noon.
    """
    for text in QUANTITIES:
        quantity = Decimal(text)
        usage = {"m": MeterUsage(UsageDigest(3, quantity, 7, 1), "")}
        parts = [
            DimensionedQuantity({"region": "eu", "tier": "gold"}, Decimal(1)),
            DimensionedQuantity({"region": "us"}, quantity - 1),
        ]
        by_cut = {
            MeterCut("m", cut, "UTC"): [
                WindowQuantity(place_at(at, PERIOD.period, cut, "UTC"), part.quantity)
                for at, part in zip(USED_AT, parts, strict=True)
            ]
            for cut in WindowCut
        }
        priced = [
            charge
            for card in cards()
            for charge in charges_of_period(PERIOD, card, usage, {}, {"m": parts}, by_cut=by_cut)
        ]
        yield text, priced
        ended = [
            charge
            for card in cards()
            if (lengths := committed_periods(card))
            for charge in charges_of_period(
                PERIOD,
                card,
                usage,
                {},
                so_far={price_id: TermSoFar(length, True, USED) for price_id, length in lengths.items()},
            )
        ]
        yield f"{text} at the end of a term", ended


def golden() -> dict[str, Any]:
    """The document of charges.json."""
    lines = {}
    for quantity, priced in charges():
        for charge in priced:
            content = charge_content(charge)
            message = MessageToDict(charge_pb2.Charge.FromString(content), preserving_proto_field_name=True)
            shown: dict[str, Any] = {name: message[name] for name in ("quantity", "amount", "parts") if name in message}
            shown["sha256"] = hashlib.sha256(content).hexdigest()
            lines[f"{charge.rate_card_id}/{charge.price_id} of {quantity}"] = shown
    return {"engine_version": ENGINE_VERSION, "charges": lines}


if __name__ == "__main__":
    CHARGES.write_text(json.dumps(golden(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
