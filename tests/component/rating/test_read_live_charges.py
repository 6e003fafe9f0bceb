"""Present charges, read page by page as the login that serves RPCs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

import pytest

from services.rating.domain.live_charge import ChargeWatch, LiveCharge
from services.rating.usecases.read_live_charges import ReadLiveCharges
from steelyard.rating.v1 import charge_pb2
from tests.component.rating.support import APRIL, HOUR, MARCH, TENANT, Rating, billing_period, rate_card, window

NOBODY: frozenset[str] = frozenset()
ALL = ChargeWatch(TENANT, NOBODY, NOBODY, MARCH.start)
PRICES = ("fee", "requests", "tokens")


@pytest.fixture
async def filled(rating: Rating) -> Rating:
    """Four subscriptions of two customers in March, the first one also in April; and one of another tenant."""
    for tenant in (TENANT, "initech"):
        await rating.add_card(rate_card(), tenant=tenant)
    numbers = range(1, 5)
    periods = [billing_period(f"sub-{number}", customer=f"cust-{number % 2}") for number in numbers]
    await rating.accept([*periods, billing_period("sub-1", customer="cust-1", period=APRIL)])
    await rating.accept([billing_period("sub-1", customer="cust-1", tenant="initech")])
    await rating.receive(window(5, customer="cust-1"))
    await rating.rate_all()
    return rating


async def read(rating: Rating, watch: ChargeWatch, periods: int) -> list[list[LiveCharge]]:
    return [page async for page in ReadLiveCharges(rating.open_api, periods)(watch)]


def named(charges: Collection[LiveCharge]) -> list[tuple[str, datetime]]:
    """Subscriptions and starts of the billing periods, which have all prices of the card each."""
    found = sorted(charge.key for charge in charges)
    keys = list(dict.fromkeys((key.subscription_id, key.period_start) for key in found))
    assert found == [(*key, price) for key in keys for price in PRICES]
    return keys


@pytest.mark.parametrize("periods", [1, 2, 4, 5, 100])
async def test_every_charge_comes_once_whatever_the_size_of_pages(filled: Rating, periods: int) -> None:
    pages = await read(filled, ALL, periods)

    assert max(len(page) for page in pages) <= periods * len(PRICES)
    assert named([charge for page in pages for charge in page]) == [
        ("sub-1", MARCH.start),
        ("sub-1", APRIL.start),
        ("sub-2", MARCH.start),
        ("sub-3", MARCH.start),
        ("sub-4", MARCH.start),
    ]


@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        (replace(ALL, customer_ids=frozenset({"cust-0", "nobody"})), ["sub-2", "sub-4"]),
        (replace(ALL, subscription_ids=frozenset({"sub-3", "sub-9"})), ["sub-3"]),
        (replace(ALL, ending_after=MARCH.end), ["sub-1"]),
        (
            replace(ALL, ending_after=MARCH.end - HOUR, starting_before=APRIL.start),
            ["sub-1", "sub-2", "sub-3", "sub-4"],
        ),
        (replace(ALL, ending_after=APRIL.end), []),
        (replace(ALL, tenant_id="initech"), ["sub-1"]),
    ],
    ids=["customers", "subscriptions", "not over", "begun", "all over", "other tenant"],
)
async def test_only_what_is_watched_is_read(filled: Rating, watch: ChargeWatch, expected: list[str]) -> None:
    pages = await read(filled, watch, 100)

    assert [key[0] for page in pages for key in named(page)] == expected


async def test_they_are_what_is_published(filled: Rating) -> None:
    [page] = await read(filled, replace(ALL, subscription_ids=frozenset({"sub-1"}), starting_before=APRIL.start), 100)

    stored = await filled.charges("sub-1")
    for charge in page:
        content = charge_pb2.Charge.FromString(charge.content)
        expected = stored[charge.key.price_id]
        assert (content.price_id, content.quantity, content.version) == (
            expected.price_id,
            str(expected.quantity),
            expected.version,
        )
        assert (charge.version, charge.customer_id, charge.period_end) == (expected.version, "cust-1", MARCH.end)
