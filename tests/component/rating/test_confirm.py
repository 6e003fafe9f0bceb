"""Before an invoice: what ingest has recorded is contained."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from libs.errors import Unavailable
from libs.periods import Period
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.confirm_charges import ConfirmCharges, ConfirmedCharges
from services.rating.usecases.fetch_billing_periods import FetchBillingPeriods
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.ports import Work
from services.rating.usecases.repair_usage import RepairUsage
from tests.component.rating.support import (
    APRIL,
    HOUR,
    MARCH,
    REQUESTS,
    TENANT,
    TOKENS,
    Rating,
    billing_period,
    rate_card,
    window,
)


@pytest.fixture
async def ready(rating: Rating) -> Rating:
    """Two periods with usage, rated."""
    await rating.add_card(rate_card())
    await rating.accept([billing_period("sub-1"), billing_period("sub-2", customer="cust-2")])
    await rating.receive(window(5), window(2, at=MARCH.start + HOUR), window(9, customer="cust-2", meter=REQUESTS))
    await rating.rate_all()
    return rating


async def _confirm(rating: Rating, *subscriptions: str) -> list[ConfirmedCharges]:
    return await rating.confirm_charges(TENANT, [(name, MARCH.start) for name in subscriptions])


def _quantities(confirmed: ConfirmedCharges) -> dict[str, Decimal]:
    return {charge.price_id: charge.quantity for charge in confirmed.charges}


async def test_complete_periods_are_confirmed_by_one_question(ready: Rating) -> None:
    before = await ready.charges()
    ready.ingest.calls.clear()

    first, second, again = await _confirm(ready, "sub-1", "sub-2", "sub-1")

    assert (first.reason, second.reason) == ("", "")
    assert _quantities(first) == {"fee": 1, "tokens": 7, "requests": 0}
    assert _quantities(second) == {"fee": 1, "tokens": 0, "requests": 9}
    assert again == first
    assert ready.ingest.calls == ["digests"]
    assert [charge.version for charge in first.charges] == [charge.version for charge in before.values()]


async def test_a_lost_window_message_is_repaired(ready: Rating) -> None:
    ready.ingest.put(window(100, at=MARCH.start + 2 * HOUR), window(0, at=MARCH.start, events=0))

    confirmed = (await _confirm(ready, "sub-1"))[0]

    assert confirmed.reason == ""
    assert _quantities(confirmed)["tokens"] == 102
    assert confirmed.charges[1].version == (await ready.charges())["tokens"].version
    assert await ready.differences() == []
    await ready.rate_all()
    assert (await ready.charges())["tokens"].quantity == 102


async def test_a_whole_meter_that_never_came_is_repaired(ready: Rating) -> None:
    ready.ingest.put(window(3, meter=REQUESTS))

    assert _quantities((await _confirm(ready, "sub-1"))[0])["requests"] == 3


async def test_a_broken_roll_up_is_repaired(ready: Rating) -> None:
    await ready.sql("UPDATE period_usage SET value = value + 1 WHERE subscription_id = 'sub-1'")
    found = await ready.differences()

    confirmed = (await _confirm(ready, "sub-1"))[0]

    assert "period roll-ups = usage windows" in found
    assert _quantities(confirmed)["tokens"] == 7
    assert await ready.differences() == []


async def test_usage_that_ingest_does_not_have_is_never_invoiced(ready: Rating) -> None:
    extra = window(1000, at=MARCH.start + 3 * HOUR)
    await ready.receive(extra)
    del ready.ingest.known[extra[:5]]

    first, second = await _confirm(ready, "sub-1", "sub-2")

    assert (first.reason, second.reason) == ("USAGE_DIFFERS", "")


async def test_a_period_of_which_ingest_has_nothing_does_not_keep_others_from_being_confirmed(ready: Rating) -> None:
    ready.ingest.known = {key: row for key, row in ready.ingest.known.items() if row.customer_id != "cust-1"}

    first, second = await _confirm(ready, "sub-1", "sub-2")

    assert (first.reason, second.reason) == ("USAGE_DIFFERS", "")


async def test_usage_that_arrives_meanwhile_is_contained(ready: Rating) -> None:
    """Between question and answer ingest records more; a second look finds it."""
    ready.ingest.put(window(1, at=MARCH.start + 4 * HOUR))
    late = [window(1, at=MARCH.start + 5 * HOUR)]
    ready.ingest.before_windows = lambda: ready.ingest.put(*late)

    confirmed = (await _confirm(ready, "sub-1"))[0]

    assert (confirmed.reason, _quantities(confirmed)["tokens"]) == ("", Decimal(9))


async def test_unknown_periods_and_cards_are_named(ready: Rating) -> None:
    await ready.accept([billing_period("sub-3", card="missing")])

    found = await ready.confirm_charges(
        TENANT, [("sub-1", APRIL.start), ("nobody", MARCH.start), ("sub-3", MARCH.start), ("sub-2", MARCH.end - HOUR)]
    )

    assert [(confirmed.reason, len(confirmed.charges)) for confirmed in found] == [
        ("BILLING_PERIOD_UNKNOWN", 0),
        ("BILLING_PERIOD_UNKNOWN", 0),
        ("RATE_CARD_UNKNOWN", 0),
        ("", 3),
    ]
    assert [confirmed.period_start for confirmed in found] == [APRIL.start, MARCH.start, MARCH.start, MARCH.start]


async def test_a_period_that_billings_stream_has_lost_is_fetched_with_its_usage(ready: Rating) -> None:
    ready.billing.known = [
        billing_period("lost", customer="cust-9"),
        billing_period("lost", customer="cust-9", period=APRIL),
        billing_period("sub-1"),
    ]
    ready.ingest.put(window(11, customer="cust-9"))

    first, found, again = await ready.confirm_charges(
        TENANT, [("sub-1", MARCH.start), ("lost", MARCH.start), ("lost", MARCH.end - HOUR)]
    )

    assert (first.reason, found.reason, _quantities(found)["tokens"]) == ("", "", Decimal(11))
    assert again == found
    assert ready.billing.calls == ["lost"]
    await ready.rate_all()
    assert (await ready.charges("lost", at=APRIL.start))["tokens"].quantity == 0
    assert await ready.differences() == []


async def test_known_periods_are_confirmed_while_billing_does_not_answer(ready: Rating) -> None:
    ready.billing.down = True

    known, unknown = await ready.confirm_charges(TENANT, [("sub-1", MARCH.start), ("lost", MARCH.start)])

    assert (known.reason, unknown.reason) == ("", "BILLING_PERIOD_UNKNOWN")


async def test_charges_say_what_period_they_are_for(ready: Rating) -> None:
    cut = Period(MARCH.start, MARCH.start + 24 * HOUR)
    (before,) = await _confirm(ready, "sub-1")
    await ready.accept([billing_period(period=cut, version=2, whole=MARCH)])
    (after,) = await _confirm(ready, "sub-1")
    (unknown,) = await _confirm(ready, "unknown")

    assert (before.reason, before.period) == ("", billing_period())
    assert (after.reason, after.period) == ("", billing_period(period=cut, version=2, whole=MARCH))
    assert {charge.period_end for charge in after.charges} == {cut.end}
    assert unknown.period is None


async def test_a_period_that_changes_after_the_comparison_is_not_confirmed(ready: Rating) -> None:
    """Its usage is another one then, which nobody has compared with ingest."""
    ready.ingest.put(window(1000, customer="cust-9"))
    transactions = itertools.count()

    @asynccontextmanager
    async def open_work(*tenants: str) -> AsyncIterator[Work]:
        if next(transactions) == 2:  # The first finds the period, the second compares, the third rates.
            ready.ingest.down = True  # So that the usage of the new customer stays unfetched.
            with pytest.raises(Unavailable):
                await ready.accept([billing_period("sub-1", customer="cust-9", version=2)])
            ready.ingest.down = False
        async with ready.open_api(*tenants) as work:
            yield work

    fetch_usage = FetchUsage(ready.ingest, ready.apply_usage)
    fetch_periods = FetchBillingPeriods(ready.billing, ready.accept)
    refresh = AskQuantities(ready.open_api, ready.ingest)
    repair = RepairUsage(open_work, ready.ingest, fetch_usage)
    confirm = ConfirmCharges(open_work, repair, refresh, fetch_periods, ready.clock, ready.rated.append)

    [changed] = await confirm(TENANT, [("sub-1", MARCH.start)])
    [again] = await _confirm(ready, "sub-1")

    assert (changed.reason, again.reason, _quantities(again)["tokens"]) == ("USAGE_DIFFERS", "", Decimal(1000))


async def test_of_periods_that_overlap_the_one_that_begins_last_is_meant(ready: Rating) -> None:
    inner = Period(MARCH.start + 24 * HOUR, MARCH.end)
    await ready.accept([billing_period("sub-1", period=inner)])

    found = await ready.confirm_charges(TENANT, [("sub-1", inner.start), ("sub-1", MARCH.start)])

    assert [confirmed.period_start for confirmed in found] == [inner.start, MARCH.start]


async def test_without_ingest_nothing_is_confirmed(ready: Rating) -> None:
    ready.ingest.down = True

    with pytest.raises(Unavailable):
        await _confirm(ready, "sub-1")


async def test_marks_that_were_not_rated_yet_are_confirmed_too(ready: Rating) -> None:
    await ready.receive(window(50, at=MARCH.start + 6 * HOUR))

    assert _quantities((await _confirm(ready, "sub-1"))[0])["tokens"] == 57


async def test_reconciliation_names_what_is_missing_here(ready: Rating) -> None:
    ready.ingest.put(window(100, at=MARCH.start + 2 * HOUR, customer="cust-2"))
    await ready.sql("UPDATE charges SET quantity = 8 WHERE subscription_id = 'sub-1' AND price_id = 'tokens'")
    await ready.sql("UPDATE usage_days SET window_count = 9 WHERE customer_id = 'cust-2'")

    checks = {comparison.name: comparison for comparison in await ready.reconcile(TENANT, MARCH)}

    assert {name for name, comparison in checks.items() if not comparison.ok} == {
        "usage windows = usage windows of ingest",
        "charge quantities = period roll-ups",
        "day roll-ups = usage windows",
    }
    windows = checks["usage windows = usage windows of ingest"]
    assert [windows.left, windows.right] == [3, 4]
    assert [difference.subject.split(",")[0] for difference in windows.differences] == ["customer cust-2"]
    charge = checks["charge quantities = period roll-ups"].differences[0]
    assert (charge.left, charge.right) == ("8", "7")
    assert f"price {TOKENS}" in charge.subject


async def test_reconciliation_looks_at_the_selected_periods_only(ready: Rating) -> None:
    await ready.sql("UPDATE charges SET quantity = 8 WHERE subscription_id = 'sub-1' AND price_id = 'tokens'")

    assert all(comparison.ok for comparison in await ready.reconcile(TENANT, APRIL))
    assert all(comparison.ok for comparison in await ready.reconcile("other", None))
