"""Billing periods become invoices, once, whatever happens."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from itertools import pairwise

import pytest

from libs.database import raw
from libs.embedded.databases import ServiceDatabase
from libs.embedded.postgres import EmbeddedPostgres
from services.billing.domain.invoice import InvoiceState
from services.billing.domain.subscription import BillingAnchor
from services.billing.store import queues
from services.billing.usecases.close_periods import CLAIM, IssueChunk
from services.billing.usecases.extend_periods import PERIODS_AT_ONCE, ExtendPeriods
from services.billing.usecases.ports import Confirmed
from tests.component.billing.world import World, a_key
from tests.unit.billing.fakes import FakeRating, a_charge, utc

JANUARY = utc(2026, 1, 1)


async def a_subscribed_tenant(world: World, tenant_id: str = "acme", *, subscriptions: int = 1) -> None:
    """On a test clock that stands at 1 January."""
    await world.add_tenant(tenant_id, JANUARY)
    await world.add_customer(tenant_id)
    for number in range(1, subscriptions + 1):
        await world.subscribe(tenant_id, f"sub-{number:02d}")


class TestIssuing:
    async def test_freezes_charges_rounds_each_line_once_and_numbers_the_invoice(self, world: World) -> None:
        await a_subscribed_tenant(world)
        key = a_key(JANUARY)
        world.rating.by_period[key] = (
            a_charge(key, price_id="b", amount="1.005", position=1),
            a_charge(key, price_id="a", amount="0.015", position=0),
        )
        await world.advance("acme", utc(2026, 2, 1))

        await world.bill()

        [invoice] = await world.invoices("acme")
        assert (invoice.invoice_number, invoice.state, invoice.issued_at) == (
            "INV-000001",
            InvoiceState.ISSUED,
            utc(2026, 2, 1),
        )
        assert [(line.price_id, line.amount.minor_units) for line in invoice.lines] == [("a", 2), ("b", 100)]
        assert invoice.total.minor_units == 102
        assert (await world.progress("acme")).progress.due_periods == 0

    async def test_waits_for_the_end_of_the_grace(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY, grace_s=3_600)
        await world.add_customer("acme")
        await world.subscribe("acme")
        await world.advance("acme", utc(2026, 2, 1) + timedelta(seconds=3_599))
        await world.bill()
        assert await world.invoices("acme") == []

        await world.advance("acme", utc(2026, 2, 1, 1))
        await world.bill()

        assert len(await world.invoices("acme", InvoiceState.ISSUED)) == 1

    async def test_shows_a_draft_until_the_watermark_has_passed(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.pass_watermark()
        await world.apply("acme", [a_charge(a_key(JANUARY), amount="3")])
        await world.advance("acme", utc(2026, 2, 1))

        await world.work()

        [draft] = await world.invoices("acme")
        assert (draft.state, draft.invoice_number, draft.total.minor_units) == (InvoiceState.DRAFT, "", 300)
        assert (await world.progress("acme")).progress.due_periods == 1
        assert world.rating.asked == []

    async def test_a_hold_keeps_its_tenant_waiting_and_nobody_else(self, world: World) -> None:
        for tenant_id in ("acme", "globex"):
            await a_subscribed_tenant(world, tenant_id)
            await world.advance(tenant_id, utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark(("acme", "batch 17 is missing"))
        await world.work()

        assert [invoice.state for invoice in await world.invoices("acme")] == [InvoiceState.DRAFT]
        assert [invoice.state for invoice in await world.invoices("globex")] == [InvoiceState.ISSUED]
        assert (await world.progress("acme")).watermark.holds == ("batch 17 is missing",)

        await world.pass_watermark()
        await world.work()
        assert [invoice.state for invoice in await world.invoices("acme")] == [InvoiceState.ISSUED]

    async def test_nothing_to_collect_is_paid_at_once(self, world: World) -> None:
        await a_subscribed_tenant(world)
        world.rating.by_period[a_key(JANUARY)] = (a_charge(a_key(JANUARY), amount="0.004"),)
        await world.advance("acme", utc(2026, 2, 1))

        await world.bill()

        [invoice] = await world.invoices("acme")
        assert (invoice.state, invoice.total.minor_units, invoice.paid_at) == (InvoiceState.PAID, 0, utc(2026, 2, 1))

    async def test_the_confirmed_charge_wins_unless_a_newer_one_is_known(self, world: World) -> None:
        await a_subscribed_tenant(world, subscriptions=2)
        older, newer = a_key(JANUARY, "sub-01"), a_key(JANUARY, "sub-02")
        await world.apply("acme", [a_charge(older, amount="1", version=1), a_charge(newer, amount="9", version=9)])
        world.rating.by_period = {
            older: (a_charge(older, amount="5", version=5),),
            newer: (a_charge(newer, amount="5", version=5),),
        }
        await world.advance("acme", utc(2026, 2, 1))

        await world.bill()

        assert [invoice.total.minor_units for invoice in await world.invoices("acme")] == [500, 900]

    async def test_a_late_charge_is_kept_and_never_changes_the_invoice(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.advance("acme", utc(2026, 2, 1))
        await world.bill()
        key = a_key(JANUARY)

        await world.apply("acme", [a_charge(key, amount="99", version=50)])

        [invoice] = await world.invoices("acme")
        assert invoice.total.minor_units == 1_234
        async with world.api("acme") as work:
            assert [charge.version for charge in (await work.charges.of([key]))[key]] == [50]


class TestCatchingUp:
    async def test_three_missed_periods_are_invoiced_in_their_order(self, world: World) -> None:
        await a_subscribed_tenant(world)

        await world.advance("acme", utc(2026, 4, 2))
        await world.bill()

        invoices = sorted(await world.invoices("acme"), key=lambda invoice: invoice.invoice_number)
        assert [(invoice.invoice_number, invoice.period.start) for invoice in invoices] == [
            ("INV-000001", utc(2026, 1, 1)),
            ("INV-000002", utc(2026, 2, 1)),
            ("INV-000003", utc(2026, 3, 1)),
        ]

    async def test_nothing_seems_done_while_later_periods_are_still_to_be_made(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.advance("acme", utc(2026, 12, 2))
        await world.pass_watermark()

        # Closes without extending first, as another replica might.
        await world.closer()()

        assert (await world.progress("acme")).progress.due_periods > 0
        await world.bill()
        assert len(await world.invoices("acme", InvoiceState.ISSUED)) == 11

    @pytest.mark.parametrize(
        ("zone", "starts_on", "anchor", "starts"),
        [
            (
                "UTC",
                date(2026, 1, 31),
                BillingAnchor.ANNIVERSARY,
                [utc(2026, 1, 31), utc(2026, 2, 28), utc(2026, 3, 31)],
            ),
            (
                "Europe/Berlin",
                date(2026, 2, 15),
                BillingAnchor.ANNIVERSARY,
                [utc(2026, 2, 14, 23), utc(2026, 3, 14, 23), utc(2026, 4, 14, 22)],
            ),
            (
                "America/New_York",
                date(2026, 2, 10),
                BillingAnchor.CALENDAR,
                [utc(2026, 2, 10, 5), utc(2026, 3, 1, 5), utc(2026, 4, 1, 4)],
            ),
        ],
    )
    async def test_month_ends_and_changes_of_the_clocks_keep_local_midnight(
        self, world: World, zone: str, starts_on: date, anchor: BillingAnchor, starts: list[object]
    ) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme", zone=zone)
        await world.subscribe("acme", starts_on=starts_on, anchor=anchor)

        await world.advance("acme", utc(2026, 5, 20))
        await world.bill()

        found = sorted(invoice.period.start for invoice in await world.invoices("acme"))
        assert found[:3] == starts

    async def test_a_subscription_from_the_past_is_caught_up(self, world: World) -> None:
        await world.add_tenant("acme", utc(2026, 3, 10))
        await world.add_customer("acme")
        await world.subscribe("acme", starts_on=date(2026, 1, 1))

        await world.bill()

        assert [invoice.period.start for invoice in await world.invoices("acme")] == [JANUARY, utc(2026, 2, 1)]

    async def test_a_clock_that_moves_by_decades_is_followed_in_many_transactions(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.advance("acme", utc(2050, 1, 1))
        extend = ExtendPeriods(unit_of_work=world.worker, queues=world.queues, clock=world.real)

        await extend()
        async with world.api("acme") as work:
            assert len(await work.periods.page("", None, None, 1_000)) == 2 + PERIODS_AT_ONCE

        while await extend():
            pass
        async with world.api("acme") as work:
            periods = [item.period for item in await work.periods.page("", None, None, 1_000)]
        assert len(periods) == 24 * 12 + 2
        assert all(before.end == after.start for before, after in pairwise(periods))

    async def test_a_period_begins_where_the_stored_one_ended(
        self, world: World, billing_database: ServiceDatabase, postgres: EmbeddedPostgres
    ) -> None:
        """As if the zone had had other rules when the last period was made."""
        await a_subscribed_tenant(world)
        spoil = "UPDATE billing_periods SET period_end = '2026-03-01T02:00Z' WHERE period_start = '2026-02-01'"
        await asyncio.to_thread(postgres.run_sql, spoil, billing_database.name)

        await world.advance("acme", utc(2026, 3, 1, 1))
        await world.work()
        async with world.api("acme") as work:
            periods = [item.period for item in await work.periods.page("", None, None, 10)]
            [charged] = (await work.periods.containing(["sub-01"], utc(2026, 3, 1, 1))).values()
        assert all(before.end == after.start for before, after in pairwise(periods))
        assert charged.period.start == utc(2026, 2, 1)

        view = await world.cancel("acme")
        assert view.subscription.ended_at == utc(2026, 3, 1, 2)
        await world.advance("acme", utc(2026, 9, 1))
        await world.bill()
        assert [invoice.period.start.month for invoice in await world.invoices("acme")] == [1, 2]


class TestTwoClosersAtOnce:
    async def test_issue_one_invoice_each_with_numbers_without_gaps(self, world: World) -> None:
        await a_subscribed_tenant(world, subscriptions=20)
        await world.advance("acme", utc(2026, 4, 2))
        await world.work()
        await world.pass_watermark()

        await asyncio.gather(*(closer() for closer in [world.closer() for _ in range(6)]))

        invoices = await world.invoices("acme")
        numbers = sorted(invoice.invoice_number for invoice in invoices)
        assert numbers == [f"INV-{value:06d}" for value in range(1, 61)]
        assert len({(invoice.subscription_id, invoice.period.start) for invoice in invoices}) == 60

    async def test_cannot_issue_twice_even_under_the_same_claim(self, world: World) -> None:
        await a_subscribed_tenant(world, subscriptions=5)
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()
        until = world.real() + CLAIM
        [keys] = (await world.queues.claim_closing(world.real(), until, 100)).values()
        confirmed = [Confirmed(key, (a_charge(key),)) for key in keys]

        await asyncio.gather(*(IssueChunk(world.worker, world.real, "acme", until)(confirmed) for _ in range(4)))

        invoices = await world.invoices("acme")
        assert sorted(invoice.invoice_number for invoice in invoices) == [f"INV-{value:06d}" for value in range(1, 6)]

    async def test_one_that_lost_its_claim_issues_nothing(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()
        stale = world.real() + CLAIM
        await world.queues.claim_closing(world.real(), stale, 100)
        world.real.at += 2 * CLAIM
        await world.queues.claim_closing(world.real(), world.real() + CLAIM, 100)

        confirmed = [Confirmed(a_key(JANUARY), (a_charge(a_key(JANUARY)),))]
        await IssueChunk(world.worker, world.real, "acme", stale)(confirmed)

        assert [invoice.state for invoice in await world.invoices("acme")] == [InvoiceState.DRAFT]


class TestAFailingPeriod:
    async def test_is_set_aside_with_its_reason_and_the_rest_goes_on(self, world: World) -> None:
        await a_subscribed_tenant(world, subscriptions=6)
        wrong_currency, unknown = a_key(JANUARY, "sub-01"), a_key(JANUARY, "sub-02")
        absurd, poisoned = a_key(JANUARY, "sub-03"), a_key(JANUARY, "sub-05")
        world.rating.by_period[wrong_currency] = (a_charge(wrong_currency, currency="USD"),)
        world.rating.refusals[unknown] = "BILLING_PERIOD_UNKNOWN"
        world.rating.by_period[absurd] = (a_charge(absurd, amount="1" + "0" * 30),)
        # Only the database finds out, and refuses the whole chunk.
        world.rating.by_period[poisoned] = (a_charge(poisoned, trace_parent="\x00"),)
        await world.advance("acme", utc(2026, 2, 1))

        await world.bill()

        issued = await world.invoices("acme", InvoiceState.ISSUED)
        assert sorted(item.invoice_number for item in issued) == ["INV-000001", "INV-000002"]
        assert {item.subscription_id for item in issued} == {"sub-04", "sub-06"}
        progress = (await world.progress("acme")).progress
        assert progress.due_periods == 4
        assert len(progress.problems) == 4
        assert any("USD" in problem for problem in progress.problems)
        assert "BILLING_PERIOD_UNKNOWN" in progress.problems

    async def test_is_tried_again_and_issued_once_the_reason_is_gone(self, world: World) -> None:
        await a_subscribed_tenant(world)
        world.rating.is_away = True
        await world.advance("acme", utc(2026, 2, 1))
        await world.bill()
        assert (await world.progress("acme")).progress.problems != ()

        world.rating.is_away = False
        world.real.at += timedelta(seconds=10)
        await world.work()

        [invoice] = await world.invoices("acme")
        assert invoice.invoice_number == "INV-000001"
        assert (await world.progress("acme")).progress.problems == ()

    async def test_leaves_no_reason_behind_once_another_worker_has_issued_the_invoice(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()
        stale = world.real() + CLAIM
        await world.queues.claim_closing(world.real(), stale, 100)
        slow = IssueChunk(world.worker, world.real, "acme", stale)
        world.real.at += CLAIM
        await world.work()

        await slow.set_aside({a_key(JANUARY): "rating did not answer"}, timedelta(seconds=2))

        assert [invoice.state for invoice in await world.invoices("acme")] == [InvoiceState.ISSUED]
        assert (await world.progress("acme")).progress.problems == ()


class TestACrash:
    async def test_between_claim_and_issue_only_delays(self, world: World) -> None:
        await a_subscribed_tenant(world)
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()
        await world.queues.claim_closing(world.real(), world.real() + CLAIM, 100)  # And then it dies.

        await world.work()
        assert [invoice.state for invoice in await world.invoices("acme")] == [InvoiceState.DRAFT]
        world.real.at += CLAIM
        await world.work()

        assert [invoice.state for invoice in await world.invoices("acme")] == [InvoiceState.ISSUED]

    async def test_inside_the_transaction_gives_no_number_away(self, world: World) -> None:
        await a_subscribed_tenant(world, subscriptions=3)
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()

        class Died(Exception):
            pass

        async def take_a_number_and_die() -> None:
            async with world.worker("acme") as work:
                assert await work.invoices.take_numbers(3) == 1
                raise Died

        with pytest.raises(Died):
            await take_a_number_and_die()
        await world.work()

        numbers = sorted(invoice.invoice_number for invoice in await world.invoices("acme"))
        assert numbers == ["INV-000001", "INV-000002", "INV-000003"]


class TestTheQueue:
    async def test_of_a_new_database_is_read_by_its_index(self, world: World) -> None:
        """Without statistics the planner would read, and sort, all periods of all tenants ten times a second."""
        await a_subscribed_tenant(world, subscriptions=100)
        async with world.worker_database.queue_transaction() as connection:
            driver = await raw(connection)
            await driver.execute(queues._BY_INDEX)
            for statement, *arguments in (
                (queues._CLAIM_CLOSING, world.real(), world.real(), 200),
                (queues._OVERDUE, world.real()),
            ):
                plan = "\n".join(row[0] for row in await driver.fetch(f"EXPLAIN {statement}", *arguments))
                assert "due_periods_closing" in plan
                assert "Seq Scan on due_" not in plan


class TestRealTime:
    async def test_a_tenant_without_test_clock_is_due_by_real_time(self, world: World) -> None:
        await world.add_tenant("acme")
        await world.add_customer("acme")
        await world.subscribe("acme", starts_on=date(2026, 1, 1))
        await world.bill()
        assert await world.invoices("acme") == []

        world.real.at = utc(2026, 2, 1, 0, 5)
        await world.bill()

        [invoice] = await world.invoices("acme")
        assert invoice.state is InvoiceState.ISSUED


async def test_the_fakes_do_not_hide_a_second_request(world: World) -> None:
    """A closer asks rating for exactly the periods it has claimed, once."""
    await a_subscribed_tenant(world, subscriptions=2)
    await world.advance("acme", utc(2026, 2, 1))
    rating: FakeRating = world.rating

    await world.bill()

    assert [len(keys) for keys in rating.asked] == [2]
