"""RateCardService."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from libs.errors import AlreadyExists, FailedPrecondition, Unavailable
from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from steelyard.rating.v1 import rate_card_pb2 as card_pb
from steelyard.rating.v1 import rate_card_service_pb2 as cards_pb
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, per_unit, tenant, violations
from tests.component.rating.running import Running
from tests.component.rating.support import APRIL, MARCH, TOKENS

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


class TestRateCards:
    async def test_a_card_comes_back_as_it_was_sent(self, cards: RateCardServiceAsyncStub, name: str) -> None:
        tiers = [card_pb.Tier(up_to="10.50", unit_amount="1.0"), card_pb.Tier(unit_amount="0.25", flat_amount="3")]
        request = card_of(
            name,
            card_pb.Price(price_id="fee", display_name="Fee", flat=card_pb.FlatPrice(amount="20.00")),
            per_unit(),
            card_pb.Price(
                price_id="packages",
                meter_id=TOKENS,
                included_quantity="3",
                rounding_mode=card_pb.ROUNDING_MODE_UP,
                package=card_pb.PackagePrice(package_size="1000", package_amount="0.05"),
            ),
            card_pb.Price(price_id="graduated", meter_id=TOKENS, graduated=card_pb.GraduatedPrice(tiers=tiers)),
            card_pb.Price(price_id="volume", meter_id=TOKENS, volume=card_pb.VolumePrice(tiers=tiers)),
            at=MARCH.start,
        )
        request.rate_card.display_name = "All models"

        created = (await cards.CreateRateCard(request, metadata=AS_ACME)).rate_card
        read = (await cards.GetRateCard(cards_pb.GetRateCardRequest(rate_card_id=name), metadata=AS_ACME)).rate_card

        assert read == created
        assert (created.version, created.create_time.seconds > 0) == (1, True)
        created.ClearField("version")
        created.ClearField("create_time")
        sent = request.rate_card
        for price in sent.prices:  # What the server fills in and how it writes numbers.
            price.included_quantity = price.included_quantity or "0"
            price.rounding_mode = price.rounding_mode or card_pb.ROUNDING_MODE_HALF_EVEN
        sent.prices[0].flat.amount = "20"
        for tiered in (sent.prices[3].graduated, sent.prices[4].volume):
            tiered.tiers[0].MergeFrom(card_pb.Tier(up_to="10.5", unit_amount="1", flat_amount="0"))
        assert created == sent

    @pytest.mark.parametrize(("rate_card_id", "reason"), [("", "REQUIRED"), ("a\x00b", "INVALID_ID")])
    async def test_an_impossible_id_is_refused_before_postgresql_does(
        self, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, rate_card_id: str, reason: str
    ) -> None:
        read = cards.GetRateCard(cards_pb.GetRateCardRequest(rate_card_id=rate_card_id), metadata=AS_ACME)
        preview = charges.PreviewCharge(charges_pb.PreviewChargeRequest(rate_card_id=rate_card_id), metadata=AS_ACME)

        for call in (read, preview):
            assert violations(await failure(call)) == [("rate_card_id", reason)]

    async def test_everything_wrong_is_named(self, cards: RateCardServiceAsyncStub) -> None:
        request = card_of(
            "bad id",
            per_unit(amount="1e400"),
            per_unit("b", amount="-1"),
            card_pb.Price(price_id="c", meter_id=TOKENS),
            card_pb.Price(price_id="d", package=card_pb.PackagePrice(package_size="0", package_amount="")),
            card_pb.Price(
                price_id="b",
                meter_id=TOKENS,
                graduated=card_pb.GraduatedPrice(tiers=[card_pb.Tier(up_to="NaN", unit_amount="1")]),
            ),
        )
        request.request_id = "1"
        request.rate_card.prices[1].rounding_mode = 99  # type: ignore[assignment]

        found = violations(await failure(cards.CreateRateCard(request, metadata=AS_ACME)))

        assert sorted(found) == [
            ("prices[0].per_unit.unit_amount", "TOO_MANY_DIGITS"),
            ("prices[1].per_unit.unit_amount", "NEGATIVE"),
            ("prices[1].rounding_mode", "UNKNOWN_VALUE"),
            ("prices[2].model", "REQUIRED"),
            ("prices[3].meter_id", "REQUIRED"),
            ("prices[3].package.package_amount", "EMPTY"),
            ("prices[3].package.package_size", "NOT_POSITIVE"),
            ("prices[4].graduated.tiers[0].up_to", "NOT_A_NUMBER"),
            ("prices[4].price_id", "NOT_UNIQUE"),
            ("rate_card_id", "INVALID_ID"),
            ("request_id", "INVALID_UUID"),
        ]

    async def test_an_unknown_meter_is_named(self, cards: RateCardServiceAsyncStub, name: str) -> None:
        request = card_of(name, per_unit(), per_unit("other", meter_id="no-such-meter"))

        found = violations(await failure(cards.CreateRateCard(request, metadata=AS_ACME)))

        assert found == [("prices[1].meter_id", "METER_UNKNOWN")]

    async def test_an_archived_meter_is_named(
        self, service: Running, cards: RateCardServiceAsyncStub, name: str
    ) -> None:
        service.ingest.archived = {"tokens"}
        try:
            request = card_of(name, per_unit("tokens", meter_id="tokens"))
            found = violations(await failure(cards.CreateRateCard(request, metadata=AS_ACME)))
        finally:
            service.ingest.archived = set()

        assert found == [("prices[0].meter_id", "METER_ARCHIVED")]

    async def test_without_ingest_the_caller_may_try_again(
        self, service: Running, cards: RateCardServiceAsyncStub, name: str
    ) -> None:
        service.ingest.down = True
        try:
            error = await failure(cards.CreateRateCard(card_of(name), metadata=AS_ACME))
        finally:
            service.ingest.down = False

        assert isinstance(error, Unavailable)

    async def test_a_request_counts_once(self, cards: RateCardServiceAsyncStub, name: str) -> None:
        request = card_of(name)
        first = await cards.CreateRateCard(request, metadata=AS_ACME)
        request.rate_card.version = 7  # Ignored, so it does not make another request.
        again = await cards.CreateRateCard(request, metadata=AS_ACME)
        request.rate_card.prices[0].per_unit.unit_amount = "0.6"

        error = await failure(cards.CreateRateCard(request, metadata=AS_ACME))

        assert again == first
        assert (type(error), error.reason) == (AlreadyExists, "REQUEST_ID_REUSED")

    async def test_versions_follow_one_another(self, cards: RateCardServiceAsyncStub, name: str) -> None:
        await cards.CreateRateCard(card_of(name), metadata=AS_ACME)
        await cards.CreateRateCard(card_of(name, per_unit(amount="1"), at=APRIL.start), metadata=AS_ACME)
        too_early = await failure(cards.CreateRateCard(card_of(name, at=APRIL.start), metadata=AS_ACME))
        other_currency = card_of(name, at=APRIL.end)
        other_currency.rate_card.currency = "EUR"
        currency = await failure(cards.CreateRateCard(other_currency, metadata=AS_ACME))

        versions = [
            (await cards.GetRateCard(cards_pb.GetRateCardRequest(rate_card_id=name, version=asked), metadata=AS_ACME))
            for asked in (0, 1, 2)
        ]
        missing = cards_pb.GetRateCardRequest(rate_card_id=name, version=3)

        assert [answer.rate_card.version for answer in versions] == [2, 1, 2]
        assert (type(too_early), too_early.reason) == (FailedPrecondition, "RATE_CARD_EFFECTIVE_TIME_NOT_LATER")
        assert currency.reason == "RATE_CARD_CURRENCY_FIXED"
        assert (await failure(cards.GetRateCard(missing, metadata=AS_ACME))).reason == "RATE_CARD_NOT_FOUND"

    async def test_a_time_that_is_over_has_to_be_meant(self, cards: RateCardServiceAsyncStub, name: str) -> None:
        request = card_of(name, at=APRIL.start)
        request.allow_past_effective_time = False
        refused = await failure(cards.CreateRateCard(request, metadata=AS_ACME))
        request.validate_only = True
        not_planned = await failure(cards.CreateRateCard(request, metadata=AS_ACME))
        request.validate_only, request.allow_past_effective_time = False, True

        created = await cards.CreateRateCard(request, metadata=AS_ACME)

        assert violations(refused) == violations(not_planned) == [("effective_time", "EFFECTIVE_TIME_PAST")]
        assert created.rate_card.version == 1

    async def test_cards_are_listed_in_pages_of_their_tenant(self, cards: RateCardServiceAsyncStub, name: str) -> None:
        own = tenant(name)
        for card_id in ("b", "a", "c"):
            await cards.CreateRateCard(card_of(card_id), metadata=own)
        await cards.CreateRateCard(card_of("b", at=APRIL.start), metadata=own)

        first = await cards.ListRateCards(cards_pb.ListRateCardsRequest(page_size=2), metadata=own)
        token = first.next_page_token
        second = await cards.ListRateCards(cards_pb.ListRateCardsRequest(page_token=token), metadata=own)
        forged = cards_pb.ListRateCardsRequest(page_token="x" + token[1:])
        negative = cards_pb.ListRateCardsRequest(page_size=-1)

        assert [(card.rate_card_id, card.version) for card in first.rate_cards] == [("a", 1), ("b", 2)]
        assert [card.rate_card_id for card in second.rate_cards] == ["c"]
        assert second.next_page_token == ""
        assert (await failure(cards.ListRateCards(forged, metadata=own))).reason == "PAGE_TOKEN_INVALID"
        assert (await failure(cards.ListRateCards(negative, metadata=own))).reason == "PAGE_SIZE_NEGATIVE"
