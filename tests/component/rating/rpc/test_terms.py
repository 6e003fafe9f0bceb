"""Commitments over several billing periods: cards and previews on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from steelyard.rating.v1 import rate_card_pb2 as card_pb
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, fee, violations
from tests.component.rating.support import TOKENS

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


def committed(**commitment: object) -> card_pb.Price:
    return card_pb.Price(
        price_id="tokens",
        meter_id=TOKENS,
        per_unit=card_pb.PerUnitPrice(unit_amount="0.01"),
        commitment=card_pb.Commitment(overage_factor="1.5", **commitment),  # type: ignore[arg-type]
    )


@pytest.fixture
async def card(cards: RateCardServiceAsyncStub, name: str) -> str:
    created = await cards.CreateRateCard(card_of(name, committed(amount="100", periods=3), fee()), metadata=AS_ACME)
    assert created.rate_card.prices[0].commitment.periods == 3
    return name


@pytest.mark.parametrize(
    ("place", "amount", "label"),
    [
        (None, "80", "period 1 of 3"),
        (charges_pb.PlaceInTerm(number=2, used="50.5"), "95.25", "period 2 of 3"),
        (charges_pb.PlaceInTerm(number=3, used="5"), "95", "period 3 of 3"),
        (charges_pb.PlaceInTerm(number=3), "100", "period 3 of 3"),
    ],
    ids=["left out", "crossing", "last", "unused"],
)
async def test_a_preview_is_of_the_billing_period_that_it_names(
    charges: ChargeServiceAsyncStub, card: str, place: charges_pb.PlaceInTerm | None, amount: str, label: str
) -> None:
    terms = {} if place is None else {"tokens": place}
    request = charges_pb.PreviewChargeRequest(rate_card_id=card, quantities={TOKENS: "8000"}, terms=terms)

    tokens, _ = (await charges.PreviewCharge(request, metadata=AS_ACME)).charges

    assert (tokens.amount, [part.label for part in tokens.parts if part.kind == "term_used"]) == (amount, [label])


@pytest.mark.parametrize(
    ("price_id", "place", "field", "reason"),
    [
        ("tokens", charges_pb.PlaceInTerm(), "terms[tokens].number", "OUT_OF_RANGE"),
        ("tokens", charges_pb.PlaceInTerm(number=4), "terms[tokens].number", "OUT_OF_RANGE"),
        ("tokens", charges_pb.PlaceInTerm(number=1, used="-1"), "terms[tokens].used", "NEGATIVE"),
        ("tokens", charges_pb.PlaceInTerm(number=1, used="1,5"), "terms[tokens].used", "NOT_A_NUMBER"),
        ("fee", charges_pb.PlaceInTerm(number=1), "terms[fee]", "NOT_ALLOWED"),
        ("unknown", charges_pb.PlaceInTerm(number=1), "terms[unknown]", "NOT_ALLOWED"),
    ],
    ids=["no place", "beyond", "negative", "no number", "no term", "no price"],
)
async def test_a_place_that_cannot_be_is_named(
    charges: ChargeServiceAsyncStub, card: str, price_id: str, place: charges_pb.PlaceInTerm, field: str, reason: str
) -> None:
    request = charges_pb.PreviewChargeRequest(rate_card_id=card, terms={price_id: place})
    assert violations(await failure(charges.PreviewCharge(request, metadata=AS_ACME))) == [(field, reason)]


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (committed(amount="100", periods=61), "OUT_OF_RANGE"),
        (committed(amount="100", periods=-1), "OUT_OF_RANGE"),
        (committed(quantity="100", periods=2), "NOT_ALLOWED"),
    ],
    ids=["too many", "negative", "quantity"],
)
async def test_a_term_that_cannot_be_is_named(
    cards: RateCardServiceAsyncStub, name: str, price: card_pb.Price, reason: str
) -> None:
    error = await failure(cards.CreateRateCard(card_of(name, price), metadata=AS_ACME))
    assert violations(error) == [("prices[0].commitment.periods", reason)]
