"""ReratingService."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from libs.errors import AlreadyExists
from services.rating.wire.times import period_to_pb
from steelyard.rating.v1 import rerating_service_pb2 as pb
from steelyard.rating.v1.rerating_service_pb2_grpc import ReratingServiceStub
from tests.component.rating.rpc.support import card_of, failure, tenant, violations
from tests.component.rating.running import Running
from tests.component.rating.support import MARCH, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub
    from steelyard.rating.v1.rerating_service_pb2_grpc import ReratingServiceAsyncStub


@pytest.fixture
def reratings(service: Running) -> ReratingServiceAsyncStub:
    return ReratingServiceStub(service.channel)


def _request(**changes: object) -> pb.RerateRequest:
    request = pb.RerateRequest(request_id=str(uuid.uuid4()), period=period_to_pb(MARCH), reason="checked", actor="ann")
    request.MergeFrom(pb.RerateRequest(**changes))  # type: ignore[arg-type]
    return request


class TestRerate:
    async def _lacking(self, service: Running, cards: RateCardServiceAsyncStub, name: str, count: int = 2) -> None:
        """Subscriptions of a tenant of their own, whose charges lack the newest usage."""
        await cards.CreateRateCard(card_of("standard"), metadata=tenant(name))
        for number in range(count):
            customer = f"cust-{number}"
            await service.send_periods(billing_period(f"{name}-{number}", customer=customer, tenant=name))
            await service.send_windows(window(3, customer=customer, tenant=name))
            await service.charge_when("tokens", "3", subscription=f"{name}-{number}")
            await service.send_windows(window(5, customer=customer, tenant=name), lost=True)

    async def test_goes_page_by_page_and_is_listed_newest_first(
        self, service: Running, cards: RateCardServiceAsyncStub, reratings: ReratingServiceAsyncStub, name: str
    ) -> None:
        await self._lacking(service, cards, name)
        own = tenant(name)

        tried = await reratings.Rerate(_request(dry_run=True), metadata=own)
        first_request = _request(page_size=1)
        first = await reratings.Rerate(first_request, metadata=own)
        second = await reratings.Rerate(_request(page_size=1, page_token=first.next_page_token), metadata=own)
        again = await reratings.Rerate(first_request, metadata=own)

        assert [problem.reason for problem in tried.problems] == ["USAGE_DIFFERS"] * 2
        assert (tried.period_count, len(tried.charges), tried.next_page_token) == (2, 0, "")
        assert [page.period_count for page in (first, second)] == [1, 1]
        assert second.next_page_token == ""
        assert again == first
        (charge,) = first.charges
        assert (charge.before.quantity, charge.after.quantity, charge.after.amount) == ("3", "5", "2.5")
        assert (charge.customer_id, charge.price_id, charge.reason, charge.actor) == (
            "cust-0",
            "tokens",
            "checked",
            "ann",
        )
        assert charge.version > 0
        listed = await reratings.ListReratedCharges(pb.ListReratedChargesRequest(page_size=1), metadata=own)
        rest = pb.ListReratedChargesRequest(page_size=1, page_token=listed.next_page_token)
        assert [*listed.charges, *(await reratings.ListReratedCharges(rest, metadata=own)).charges] == [
            *second.charges,
            *first.charges,
        ]
        of_one = pb.ListReratedChargesRequest(subscription_id=f"{name}-0")
        assert list((await reratings.ListReratedCharges(of_one, metadata=own)).charges) == list(first.charges)
        strangers = await reratings.ListReratedCharges(pb.ListReratedChargesRequest(), metadata=tenant(f"{name}-b"))
        assert not strangers.charges

    async def test_says_what_is_wrong_with_a_request(self, reratings: ReratingServiceAsyncStub, name: str) -> None:
        own = tenant(name)
        for request, wrong in (
            (pb.RerateRequest(), [("period", "REQUIRED")]),
            (
                pb.RerateRequest(period=period_to_pb(MARCH)),
                [("request_id", "REQUIRED"), ("reason", "REQUIRED")],
            ),
            (_request(actor="a" * 201), [("actor", "TOO_LONG")]),
            (_request(page_token="x"), [("page_token", "PAGE_TOKEN_INVALID")]),
            (_request(priced_by="a b"), [("priced_by", "INVALID_ID")]),
        ):
            assert violations(await failure(reratings.Rerate(request, metadata=own))) == wrong

    async def test_a_token_is_for_the_same_billing_periods(
        self, service: Running, cards: RateCardServiceAsyncStub, reratings: ReratingServiceAsyncStub, name: str
    ) -> None:
        await self._lacking(service, cards, name)
        page = await reratings.Rerate(_request(page_size=1, dry_run=True), metadata=tenant(name))

        other = _request(page_token=page.next_page_token, dry_run=True, priced_by="other")
        error = await failure(reratings.Rerate(other, metadata=tenant(name)))

        assert violations(error) == [("page_token", "PAGE_TOKEN_INVALID")]

    async def test_a_request_id_is_for_one_request(self, reratings: ReratingServiceAsyncStub, name: str) -> None:
        request = _request()
        await reratings.Rerate(request, metadata=tenant(name))
        request.reason = "another"

        error = await failure(reratings.Rerate(request, metadata=tenant(name)))

        assert (type(error), error.reason) == (AlreadyExists, "REQUEST_ID_REUSED")
