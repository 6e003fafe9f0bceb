"""Usage on the days on which clocks are changed: rows of every size and zone add up to the whole."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from libs.database import Database
from libs.money import exact
from libs.periods import BucketSize, Period, find_zone, local_midnight
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_question import UsageQuestion
from tests.component.ingest.builders import Event, a_batch, a_meter, add_meters

CHANGES = {
    "Australia/Lord_Howe": (date(2026, 4, 5), timedelta(minutes=24 * 60 + 30)),
    "Europe/Berlin": (date(2026, 3, 29), timedelta(hours=23)),
    "America/St_Johns": (date(2026, 11, 1), timedelta(hours=25)),
    "Pacific/Chatham": (date(2026, 9, 27), timedelta(hours=23)),
    "Africa/Cairo": (date(2026, 4, 24), timedelta(hours=23)),
    "Asia/Kathmandu": (date(2026, 4, 5), timedelta(hours=24)),
}
"""A day of each zone, and its length: half an hour more, at midnight, of +05:45 that never changes."""


def three_days(zone: str) -> Period:
    day, _ = CHANGES[zone]
    first, last = day - timedelta(days=1), day + timedelta(days=2)
    return Period(local_midnight(first, find_zone(zone)), local_midnight(last, find_zone(zone)))


def instants(period: Period, dice: random.Random) -> list[datetime]:
    """At and around the starts of windows, and anywhere."""
    hours = [
        period.start + timedelta(minutes=15) * number
        for number in range((period.end - period.start) // timedelta(minutes=15))
    ]
    near = [at + timedelta(microseconds=dice.choice([-1, 0, 1])) for at in dice.sample(hours, 60)]
    length_us = (period.end - period.start) // timedelta(microseconds=1)
    anywhere = [period.start + timedelta(microseconds=dice.randrange(length_us)) for _ in range(60)]
    return [period.start, *near, *anywhere, period.end - timedelta(microseconds=1)]


@pytest.mark.parametrize("zone", CHANGES)
class TestDaysOfClockChanges:
    async def test_rows_of_every_size_add_up_and_are_what_lies_in_them(
        self, zone: str, record: RecordUsage, api: Database
    ) -> None:
        period, dice = three_days(zone), random.Random(zone)
        await add_meters(api, a_meter(), a_meter("calls", expression=""))
        events = [
            Event(f"e{number}", {"tokens": f"{dice.randrange(-99, 10**6)}.{dice.randrange(10**6):06}"}, at=at)
            for number, at in enumerate(instants(period, dice))
        ]
        await record([a_batch(1, *events)])
        ask = QueryUsage(usage=PostgresUsageStore(api))
        inside = Period(period.start + timedelta(minutes=7, microseconds=1), period.end - timedelta(minutes=31))

        for asked, size, meter_id in [
            (time, size, name) for time in (period, inside) for size in BucketSize for name in ("tokens", "calls")
        ]:
            anchor_day = CHANGES[zone][0].day if size is BucketSize.BILLING_PERIOD else 0
            question = UsageQuestion(
                "acme", meter_id, "", asked.start, asked.end, size, zone, (), False, (), anchor_day
            )
            times, rows = await ask(question, None, 10_000)
            _, (whole,) = await ask(replace(question, size=None, anchor_day=0), None, 10)

            values = {row.index: (row.value, row.event_count) for row in rows}
            for index, time in enumerate(times):
                within = [event for event in events if time.contains(event.at)]
                with exact():
                    total = sum((Decimal(event.properties["tokens"]) for event in within), Decimal(0))
                wanted = total if meter_id == "tokens" else Decimal(len(within))
                assert values.get(index, (Decimal(0), 0)) == (wanted, len(within)), (size, time)
            with exact():
                assert sum((row.value for row in rows), Decimal(0)) == whole.value, size
            assert sum(row.event_count for row in rows) == whole.event_count

    async def test_the_day_has_the_length_of_its_clocks(self, zone: str, api: Database) -> None:
        await add_meters(api, a_meter())
        period = three_days(zone)
        question = UsageQuestion("acme", "tokens", "", period.start, period.end, BucketSize.DAY, zone, (), False, ())

        times, _ = await QueryUsage(usage=PostgresUsageStore(api))(question, None, 10)

        assert times[1].end - times[1].start == CHANGES[zone][1]
