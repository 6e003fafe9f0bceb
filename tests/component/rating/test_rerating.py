"""Rating again, and what that leaves behind."""

from __future__ import annotations

import uuid
from dataclasses import replace
from decimal import Decimal

import pytest

from libs.errors import RequestIdReused, Unavailable
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.rerating import ReratedPage
from services.rating.usecases.rerate import ListReratedCharges, RerateRequest
from tests.component.rating.support import APRIL, MARCH, TENANT, TOKENS, Rating, billing_period, window

SCOPE = PeriodScope(TENANT, MARCH)


def _request(request_id: str = "", fingerprint: bytes = b"") -> RerateRequest:
    return RerateRequest(TENANT, request_id or str(uuid.uuid4()), fingerprint, "a roll-up was wrong", "ann")


def _changes(page: ReratedPage) -> list[tuple[str, str, str, str]]:
    return [
        (
            change.after.key.subscription_id,
            change.after.price_id,
            "" if change.before is None else f"{change.before.quantity:f}",
            f"{change.after.quantity:f}",
        )
        for change in page.charges
    ]


@pytest.fixture
async def used(rating: Rating) -> Rating:
    """March of sub-1 and sub-2, of two customers, with 200 and 300 tokens."""
    await rating.start_march()
    await rating.accept([billing_period("sub-2", customer="cust-2")])
    await rating.receive(window(200), window(300, customer="cust-2"))
    await rating.rate_all()
    return rating


async def _spoil(rating: Rating) -> None:
    """The roll-up of sub-1 says 50 more than its windows, and its charge follows."""
    await rating.sql("UPDATE period_usage SET value = value + 50 WHERE subscription_id = 'sub-1'")
    async with rating.open_work(TENANT) as work:
        await work.queue.mark([billing_period().key], rating.now)
    await rating.rate_all()
    assert (await rating.charges())["tokens"].quantity == 250


class TestWhereAllIsWell:
    async def test_nothing_changes(self, used: Rating) -> None:
        before = await used.charges()

        tried, done = await used.rerate.dry_run(SCOPE, None, 10), await used.rerate(_request(), SCOPE, None, 10)

        assert (tried.period_count, tried.charges, tried.problems) == (2, [], [])
        assert (done.period_count, done.charges, done.problems, done.next_after) == (2, [], [], None)
        assert await used.charges() == before
        assert await used.sql("SELECT count(*) FROM rerated_charges") == [(0,)]


class TestWhatIsWrong:
    async def test_is_told_by_a_dry_run_that_changes_nothing(self, used: Rating) -> None:
        await _spoil(used)
        before = await used.charges()

        tried = await used.rerate.dry_run(SCOPE, None, 10)

        assert _changes(tried) == [("sub-1", "tokens", "250", "200")]
        assert [change.after.version for change in tried.charges] == [0]
        assert await used.charges() == before
        assert await used.sql("SELECT value FROM period_usage WHERE subscription_id = 'sub-1'") == [(Decimal(250),)]
        assert await used.sql("SELECT count(*) FROM requests WHERE method = 'Rerate'") == [(0,)]

    async def test_is_put_right_for_a_reason(self, used: Rating) -> None:
        await _spoil(used)
        tried = await used.rerate.dry_run(SCOPE, None, 10)

        done = await used.rerate(_request(), SCOPE, None, 10)

        assert _changes(done) == _changes(tried)
        charge = (await used.charges())["tokens"]
        assert charge.quantity == 200
        assert charge == done.charges[0].after
        assert await used.differences() == []
        ((change, cause, _),) = await ListReratedCharges(used.open_api)(TENANT, "", None, 10)
        assert (change.before, change.after) == (
            done.charges[0].before._replace(trace_parent="") if done.charges[0].before else None,
            charge._replace(trace_parent=""),
        )
        assert (cause.reason, cause.actor, cause.at) == ("a roll-up was wrong", "ann", used.now)

    async def test_is_published(self, used: Rating) -> None:
        await _spoil(used)
        await used.sql("DELETE FROM charge_marks")

        await used.rerate(_request(), SCOPE, None, 10)

        assert await used.sql("SELECT count(*) FROM charge_marks") == [(1,)]

    async def test_usage_that_never_came_is_fetched_but_not_by_a_dry_run(self, used: Rating) -> None:
        used.ingest.put(window(7, customer="cust-2"))

        tried = await used.rerate.dry_run(SCOPE, None, 10)
        done = await used.rerate(_request(), SCOPE, None, 10)

        assert (
            _changes(tried),
            [(period.key.subscription_id, problem.reason) for period, problem in tried.problems],
        ) == (
            [],
            [("sub-2", "USAGE_DIFFERS")],
        )
        assert (_changes(done), done.problems) == ([("sub-2", "tokens", "300", "7")], [])

    async def test_exact_quantities_are_asked_for_again(self, rating: Rating) -> None:
        rating.ingest.not_additive = {TOKENS}
        await rating.start_march()
        await rating.receive(window(9))
        rating.ingest.exact[TENANT, "cust-1", TOKENS, MARCH.start] = ExactUsage(Decimal(900), 1, 10**9)

        done = await rating.rerate(_request(), SCOPE, None, 10)

        assert _changes(done)[0][:2] == ("sub-1", "tokens")
        assert (await rating.charges())["tokens"].quantity == 900

    async def test_a_period_that_cannot_be_rated_is_named_beside_the_others(self, used: Rating) -> None:
        await used.accept([billing_period("sub-3", customer="cust-3", card="none")])
        await _spoil(used)

        done = await used.rerate(_request(), SCOPE, None, 10)

        assert [(period.key.subscription_id, problem.reason) for period, problem in done.problems] == [
            ("sub-3", "RATE_CARD_UNKNOWN")
        ]
        assert _changes(done) == [("sub-1", "tokens", "250", "200")]


class TestRequests:
    async def test_a_request_counts_once(self, used: Rating) -> None:
        await _spoil(used)
        request = _request(fingerprint=b"all")
        first = await used.rerate(request, SCOPE, None, 1)
        version = (await used.charges())["tokens"].version

        again = await used.rerate(request, SCOPE, None, 1)

        assert _changes(again) == _changes(first)
        assert again[3:] == first[3:]
        assert (await used.charges())["tokens"].version == version
        with pytest.raises(RequestIdReused):
            await used.rerate(_request(request.request_id, b"other"), SCOPE, None, 1)

    async def test_pages_follow_one_another(self, used: Rating) -> None:
        await used.accept([billing_period(period=APRIL)])
        pages: list[ReratedPage] = []
        after = None
        while not pages or after is not None:
            pages.append(await used.rerate(_request(), PeriodScope(TENANT, MARCH), after, 1))
            after = pages[-1].next_after

        assert [page.period_count for page in pages] == [1, 1]
        assert pages[0].next_after == ("cust-1", "sub-1", MARCH.start)

    async def test_only_the_scope_is_touched(self, used: Rating) -> None:
        await _spoil(used)

        for scope in (
            SCOPE._replace(within=APRIL),
            SCOPE._replace(priced_by="other"),
            SCOPE._replace(customer_ids=["cust-2"]),
            SCOPE._replace(tenant_id="bolt"),
        ):
            request = replace(_request(), tenant_id=scope.tenant_id)
            assert _changes(await used.rerate(request, scope, None, 10)) == []

        assert (await used.charges())["tokens"].quantity == 250

    async def test_without_ingest_nothing_happens(self, used: Rating) -> None:
        used.ingest.down = True

        with pytest.raises(Unavailable):
            await used.rerate(_request(), SCOPE, None, 10)

        assert await used.sql("SELECT count(*) FROM requests WHERE method = 'Rerate'") == [(0,)]
