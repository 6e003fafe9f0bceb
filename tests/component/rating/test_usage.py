"""Windows and their roll-ups, in any order, however often, and while billing periods arrive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.periods import WINDOW, Period
from services.rating.domain.usage import UsageDigest, WindowBatch, WindowRow
from tests.component.rating.support import (
    APRIL,
    HOUR,
    MARCH,
    REQUESTS,
    TOKENS,
    Rating,
    billing_period,
    digests_of,
    window,
)

MARCH_KEY = billing_period().key
UNRATED = ["rated billing periods = billing periods"]  # Nobody rates in these tests.
TRACE_A = "00-" + "a" * 32 + "-" + "1" * 16 + "-01"
TRACE_B = "00-" + "b" * 32 + "-" + "2" * 16 + "-01"


async def test_a_window_counts_in_its_billing_period_only(rating: Rating) -> None:
    await rating.accept([billing_period(), billing_period(period=APRIL)])

    await rating.receive(
        window(3, at=MARCH.end - WINDOW, version=7), window("0.25", at=MARCH.end), window(9, at=MARCH.start - WINDOW)
    )

    usage = await rating.usage(MARCH_KEY, billing_period(period=APRIL).key)
    assert usage[MARCH_KEY] == {TOKENS: UsageDigest(1, Decimal(3), 1, 7)}
    assert usage[billing_period(period=APRIL).key][TOKENS].value == Decimal("0.25")


async def test_a_higher_version_replaces_and_a_lower_one_changes_nothing(rating: Rating) -> None:
    await rating.accept([billing_period()])
    newest = window(4, version=9, events=2)

    changed = [
        await rating.receive(row)
        for row in (window(10, version=5, events=3), newest, newest, window(99, version=8), window(10, version=5))
    ]

    assert changed == [1, 1, 0, 0, 0]
    assert (await rating.usage(MARCH_KEY))[MARCH_KEY] == {TOKENS: UsageDigest(1, Decimal(4), 2, 9)}
    assert await rating.differences() == UNRATED


async def test_of_one_batch_the_highest_version_counts(rating: Rating) -> None:
    await rating.accept([billing_period()])

    await rating.receive(window(1, version=3), window(5, version=8), window(2, version=4))

    assert (await rating.usage(MARCH_KEY))[MARCH_KEY][TOKENS].value == 5


async def test_windows_of_different_dimensions_add_up(rating: Rating) -> None:
    await rating.accept([billing_period()])
    long_text = "x" * 5000  # Longer than an index of PostgreSQL takes.

    await rating.receive(window(1), window(2, dimensions='{"model":"a"}'))
    await rating.receive(window(4, dimensions=f'{{"model":"{long_text}"}}'))
    await rating.receive(window(0, dimensions='{"model":"a"}', events=0))

    assert (await rating.usage(MARCH_KEY))[MARCH_KEY][TOKENS].value == 5
    assert await rating.differences() == UNRATED


async def test_two_subscriptions_of_a_customer_both_see_its_usage(rating: Rating) -> None:
    await rating.accept([billing_period("sub-1"), billing_period("sub-2", card="other")])

    await rating.receive(window(6))

    usage = await rating.usage(billing_period("sub-1").key, billing_period("sub-2").key)
    assert [meters[TOKENS].value for meters in usage.values()] == [6, 6]


async def test_a_period_that_comes_after_its_windows_contains_them(rating: Rating) -> None:
    await rating.receive(window(2), window(3, at=MARCH.start + HOUR, meter=REQUESTS, trace_parent=TRACE_A))

    await rating.accept([billing_period()])

    usage = (await rating.usage(MARCH_KEY))[MARCH_KEY]
    assert {meter_id: digest.value for meter_id, digest in usage.items()} == {TOKENS: 2, REQUESTS: 3}


async def test_a_new_version_of_a_period_moves_its_usage(rating: Rating) -> None:
    await rating.receive(window(2), window(5, customer="cust-2"), window(7, customer="cust-2", at=MARCH.start + HOUR))
    await rating.accept([billing_period(version=2)])

    await rating.accept([billing_period(customer="cust-2", version=3), billing_period(version=1)])

    assert (await rating.usage(MARCH_KEY))[MARCH_KEY][TOKENS].value == 12
    assert await rating.differences() == UNRATED


async def test_windows_that_never_came_are_fetched_with_the_period(rating: Rating) -> None:
    rating.ingest.put(window(2), window(3, at=MARCH.start + HOUR), window(100, at=APRIL.start))

    await rating.accept([billing_period()])

    assert (await rating.usage(MARCH_KEY))[MARCH_KEY][TOKENS].value == 5
    assert await rating.differences() == UNRATED


async def test_a_period_is_stored_while_ingest_is_down_and_fetched_when_it_comes_again(rating: Rating) -> None:
    rating.ingest.put(window(2))
    rating.ingest.down = True
    with pytest.raises(Exception, match="ingest is down"):
        await rating.accept([billing_period()])
    await rating.apply_usage(WindowBatch([window(40, at=MARCH.start + HOUR)]))
    live = (await rating.usage(MARCH_KEY))[MARCH_KEY][TOKENS].value

    rating.ingest.down = False
    await rating.accept([billing_period()])
    await rating.accept([billing_period()])

    assert live == 40
    assert (await rating.usage(MARCH_KEY))[MARCH_KEY][TOKENS].value == 42
    assert rating.ingest.calls.count("windows") == 2  # Not again once it is done.


async def test_the_newest_sampled_trace_of_a_meter_is_kept(rating: Rating) -> None:
    await rating.accept([billing_period()])

    await rating.receive(window(1, version=5, trace_parent=TRACE_A), window(1, version=4, at=MARCH.start + HOUR))
    await rating.receive(window(2, version=9, trace_parent=TRACE_B), window(2, version=8, at=MARCH.start + HOUR))
    await rating.receive(window(3, version=10))

    async with rating.open_work("acme") as work:
        usage = await work.usage.of_periods([MARCH_KEY])
    assert usage[MARCH_KEY][TOKENS].trace_parent == TRACE_B


@pytest.mark.parametrize("seed", range(6))
async def test_roll_ups_equal_recomputation_after_any_interleaving(rating: Rating, seed: int) -> None:
    """Windows come in shuffled, overlapping batches from three consumers while periods come, change and repeat."""
    chance = random.Random(seed)
    history = _history(chance)
    rating.ingest.put(*history)
    periods = [
        billing_period(f"sub-{number}", customer=f"cust-{chance.randrange(4)}", period=period, version=version)
        for number in range(6)
        for period in (MARCH, APRIL)
        for version in (1, 2)
    ]
    chance.shuffle(periods)
    if seed % 2:  # Then nothing but the stream brings windows, and no fetch can hide that one was lost.
        rating.ingest.known.clear()

    await asyncio.gather(
        *(_consume(rating, _batches(chance, history), random.Random(seed * 10 + consumer)) for consumer in range(3)),
        *(_accept(rating, periods[start::2], random.Random(seed * 100 + start)) for start in range(2)),
    )
    rating.ingest.put(*history)

    newest = {period.key: period for period in sorted(periods, key=lambda period: period.version)}
    expected = {key: digests_of(rating.ingest.rows_in("acme", period.scope)) for key, period in newest.items()}
    assert await rating.usage(*newest) == expected
    assert sum(len(meters) for meters in expected.values()) > 10
    assert await rating.differences() == UNRATED


def _history(chance: random.Random) -> list[WindowRow]:
    """Two to four versions of each of some windows around the edges of the two months."""
    starts = [edge + WINDOW * step for edge in (MARCH.start, MARCH.end, APRIL.end) for step in range(-2, 3)]
    rows = []
    for start in starts:
        for customer in range(4):
            for meter in (TOKENS, REQUESTS):
                for dimensions in ("{}", '{"model":"a"}'):
                    versions = sorted(chance.sample(range(1, 10_000), chance.randrange(2, 5)))
                    rows += [
                        window(
                            f"{chance.randrange(-50, 1000)}.{chance.randrange(1000):03d}",
                            at=start,
                            version=version,
                            customer=f"cust-{customer}",
                            meter=meter,
                            dimensions=dimensions,
                            events=chance.randrange(5),
                        )
                        for version in versions
                    ]
    return rows


def _batches(chance: random.Random, history: Sequence[WindowRow]) -> list[list[WindowRow]]:
    rows = [row for row in history if chance.random() < 0.6]
    chance.shuffle(rows)
    # Every consumer ends with the whole history, so that all together have delivered everything.
    return [rows[start : start + 40] for start in range(0, len(rows), 40)] + [list(history)]


async def _consume(rating: Rating, batches: Sequence[list[WindowRow]], chance: random.Random) -> None:
    for rows in batches:
        await rating.apply_usage(WindowBatch(rows))
        await asyncio.sleep(chance.random() / 100)


async def _accept(rating: Rating, periods: Sequence[object], chance: random.Random) -> None:
    for period in periods:
        await asyncio.sleep(chance.random() / 20)
        await rating.accept([period])  # type: ignore[list-item]


async def test_usage_of_a_day_is_explained_up_to_the_edges_of_the_period(rating: Rating) -> None:
    """Windows of a period that begins and ends within UTC days, as it does in most time zones."""
    local = Period(MARCH.start + 5 * HOUR, MARCH.start + timedelta(days=3, hours=5))
    period = billing_period(period=local)
    await rating.accept([period])
    hours = range(100)
    await rating.receive(*(window(hour, at=MARCH.start + hour * HOUR) for hour in hours))

    async with rating.open_work("acme") as work:
        explained = (await work.usage.explain(period, [TOKENS]))[TOKENS]

    inside = [hour for hour in hours if local.contains(MARCH.start + hour * HOUR)]
    by_day = [[hour for hour in inside if hour // 24 == day] for day in range(4)]
    assert [(day.quantity, day.window_count, day.event_count) for day in explained] == [
        (Decimal(sum(day)), len(day), len(day)) for day in by_day
    ]
    assert [explained[0].period.start, explained[-1].period.end] == [local.start, local.end]
