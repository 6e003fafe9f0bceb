"""A subscription has one of the currencies of its card, for good."""

from __future__ import annotations

import pytest

from libs.errors import InvalidInput
from libs.rpc import channel
from services.billing.clients.rating import GrpcRating
from services.billing.domain.rate_card_facts import CurrencyDiffers, RateCardFacts
from services.billing.domain.subscription import BillingAnchor, SubscriptionNotFound
from services.billing.usecases.create_subscription import SubscriptionOrder
from services.billing.usecases.get_subscriptions import GetSubscription
from services.billing.usecases.preview_invoice import PreviewInvoice
from services.billing.wire.billing_periods import billing_period_to_pb
from tests.component.billing.peers import RatingPeer, serving
from tests.component.billing.test_proration import published
from tests.component.billing.world import World
from tests.unit.billing.fakes import utc

JANUARY = utc(2026, 1, 1)


async def start(world: World) -> None:
    """A card in euros and dollars, and a customer."""
    await world.add_tenant("acme", JANUARY)
    await world.add_customer("acme")
    world.rating.further_currencies["standard"] = ("USD",)


@pytest.mark.parametrize(("asked", "given"), [("", "EUR"), ("EUR", "EUR"), ("USD", "USD")])
async def test_it_is_the_one_asked_for_or_the_first_of_the_card(world: World, asked: str, given: str) -> None:
    await start(world)

    view = await world.subscribe("acme", currency=asked)

    assert view.subscription.currency == given
    preview = PreviewInvoice(unit_of_work=world.api, clock=world.real)
    assert (await preview(tenant_id="acme", subscription_id="sub-01", at=None)).currency == given
    assert {billing_period_to_pb(state).currency for state in await published(world)} == {given}


async def test_one_that_the_card_lacks_is_refused(world: World) -> None:
    await start(world)

    with pytest.raises(CurrencyDiffers) as refused:
        await world.subscribe("acme", currency="GBP")

    assert refused.value.metadata == {"rateCardId": "standard", "currency": "GBP"}
    with pytest.raises(SubscriptionNotFound):
        await GetSubscription(unit_of_work=world.api, clock=world.real)(tenant_id="acme", subscription_id="sub-01")


async def test_what_is_no_currency_is_refused(world: World) -> None:
    await start(world)

    with pytest.raises(InvalidInput) as refused:
        await world.subscribe("acme", currency="usd")

    assert [(item.field, item.reason) for item in refused.value.violations] == [
        ("subscription.currency", "UNKNOWN_CURRENCY")
    ]


async def test_it_stays_over_changes_of_the_card(world: World) -> None:
    await start(world)
    await world.subscribe("acme", currency="USD")
    world.rating.currencies |= {"pro": "GBP", "euros": "EUR"}
    world.rating.further_currencies["pro"] = ("USD",)

    with pytest.raises(CurrencyDiffers):
        await world.change_card("acme", "euros")
    view = await world.change_card("acme", "pro")

    assert (view.subscription.rate_card_id, view.subscription.currency) == ("pro", "USD")
    assert {state.currency for state in await published(world)} == {"USD"}


async def test_rating_tells_the_currencies_of_a_card() -> None:
    peer = RatingPeer()  # type: ignore[abstract]  # The rest is answered UNIMPLEMENTED.
    peer.further_currencies = ["USD", "GBP"]
    async with serving(peer) as target, channel(target, key="") as opened:
        facts = await GrpcRating(opened).rate_card("acme", "standard")

    assert facts == RateCardFacts("EUR", False, ("USD", "GBP"))


def test_a_request_of_before_means_what_it_meant() -> None:
    order = SubscriptionOrder("sub", "cust", "card", None, BillingAnchor.CALENDAR)

    assert repr(order) == (
        "SubscriptionOrder(subscription_id='sub', customer_id='cust', rate_card_id='card', starts_on=None,"
        " anchor=<BillingAnchor.CALENDAR: 'calendar'>)"
    )
