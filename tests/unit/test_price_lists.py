"""Every folder of examples/price-lists can be applied, and what its README works out comes out to the last digit.

Events are measured, aggregated and priced by the functions that the services use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.cli.meter_files import read_meters
from libs.money import exact, round_to_minor
from services.ingest.domain.aggregations import AggregationPeriod, EventColumns, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.measuring import MeterReading, measure
from services.ingest.domain.meter import Meter, meter_violations
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.wire.meters import meter_from_pb
from services.rating.domain.charges import Charge, rate_card_charges
from services.rating.domain.meter_use import meter_violations as use_violations
from services.rating.domain.prices import Matrix
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, MeterFacts
from tests.support.price_lists import ROOT, PriceList, SentEvent, WorkedExample, price_lists, worked_examples
from tests.support.rate_card_files import valid_cards

LISTS = price_lists()
EXAMPLES = [
    pytest.param(found, example, id=f"{found.name}: {example.title}") for found in LISTS for example in found.examples
]
of_every_list = pytest.mark.parametrize("price_list", LISTS, ids=lambda found: found.name)
of_every_example = pytest.mark.parametrize(("price_list", "example"), EXAMPLES)


def meters_of(price_list: PriceList) -> list[Meter]:
    return [meter_from_pb(message) for message in read_meters(price_list.meters_file)]


def card_of(price_list: PriceList) -> RateCard:
    (card,) = valid_cards(price_list.card_file.read_text("utf-8"))
    return card


def columns(events: Sequence[SentEvent]) -> UsageColumns:
    count = len(events)
    return UsageColumns(
        event_ids=[str(number) for number in range(count)],
        sources=["examples"] * count,
        event_types=[event.event_type for event in events],
        customer_ids=["customer"] * count,
        times_ns=[to_ns(event.at) for event in events],
        properties=[event.properties for event in events],
    )


def quantity(reading: MeterReading, rows: Sequence[int], events: UsageColumns, period: AggregationPeriod) -> Decimal:
    """Of some of the events that a meter measured."""
    found = evaluate(
        reading.meter,
        EventColumns(
            times_ns=[events.times_ns[reading.rows[row]] for row in rows],
            positions=list(rows),
            values=[reading.values[row] for row in rows],
        ),
        period,
    )
    assert found is not None
    return found


def by_dimensions(reading: MeterReading, events: UsageColumns, period: AggregationPeriod) -> list[DimensionedQuantity]:
    groups: Mapping[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    for row, event in enumerate(reading.rows):
        groups[tuple((name, events.properties[event][name]) for name in reading.meter.group_by)].append(row)
    return [DimensionedQuantity(dict(group), quantity(reading, rows, events, period)) for group, rows in groups.items()]


def charges_of(price_list: PriceList, example: WorkedExample) -> tuple[Charge, ...]:
    """What the example costs, from its events on."""
    period = AggregationPeriod(to_ns(example.period.start), to_ns(example.period.end))
    events, card = columns(example.events), card_of(price_list)
    measured = measure(events, meters_of(price_list))
    assert measured.problems == {}
    usage = {
        reading.meter.meter_id: quantity(reading, range(len(reading.rows)), events, period)
        for reading in measured.readings
    }
    matrices = {price.meter_id for price in card.prices if isinstance(price.model, Matrix)}
    dimensions = {
        reading.meter.meter_id: by_dimensions(reading, events, period)
        for reading in measured.readings
        if reading.meter.meter_id in matrices
    }
    counts = {reading.meter.meter_id: len(reading.rows) for reading in measured.readings}
    return rate_card_charges(card, usage, counts, dimensions)


def test_all_folders_are_there_and_listed() -> None:
    index = (ROOT / "README.md").read_text("utf-8")
    assert [found.name for found in LISTS] == [
        "cdn-95-5",
        "flat-fee-and-overage",
        "included-usage-and-tiers",
        "llm-api",
        "object-storage",
        "pay-as-you-go",
        "sms-by-country",
    ]
    assert all(f"]({found.name}/README.md)" in index for found in LISTS)


def test_no_two_lists_want_the_same_meter_or_card() -> None:
    """All of them can be applied to one tenant, and no list's events count for another's meters."""
    meters = [meter for found in LISTS for meter in meters_of(found)]
    assert len({meter.meter_id for meter in meters}) == len(meters)
    assert [card_of(found).rate_card_id for found in LISTS] == [found.name for found in LISTS]
    types = [{meter.event_type for meter in meters_of(found)} for found in LISTS]
    assert sum(map(len, types)) == len(set().union(*types))


@of_every_list
def test_meters_can_be_made(price_list: PriceList) -> None:
    assert [meter_violations(meter) for meter in meters_of(price_list)] == [[] for _ in meters_of(price_list)]


@of_every_list
def test_cards_can_use_the_meters_beside_them_and_leave_none_out(price_list: PriceList) -> None:
    card, meters = card_of(price_list), meters_of(price_list)
    facts = {meter.meter_id: MeterFacts(meter.additive, frozenset(meter.group_by)) for meter in meters}
    assert use_violations(card, facts) == []
    assert {price.meter_id for price in card.prices} - {None} == facts.keys()


@of_every_list
def test_every_example_has_a_table_with_all_lines_in_their_order(price_list: PriceList) -> None:
    names = [price.price_id for price in card_of(price_list).prices]
    assert len(price_list.examples) >= 2
    assert [[line.price_id for line in example.lines] for example in price_list.examples] == [
        names for _ in price_list.examples
    ]


@of_every_example
def test_tables_add_up(price_list: PriceList, example: WorkedExample) -> None:
    with exact():
        assert sum(line.amount for line in example.lines) == example.total.amount
        assert sum(line.invoiced for line in example.lines) == example.total.invoiced


@of_every_example
def test_examples_cost_what_their_table_says(price_list: PriceList, example: WorkedExample) -> None:
    charges = charges_of(price_list, example)

    currency = card_of(price_list).currency
    assert [
        (
            charge.price_id,
            charge.quantity,
            charge.amount,
            Decimal(round_to_minor(charge.amount, currency, charge.price.rounding_mode).minor_units),
        )
        for charge in charges
    ] == [(line.price_id, line.quantity, line.amount, line.invoiced * 100) for line in example.lines]


@of_every_example
def test_events_lie_in_the_month_of_their_example(price_list: PriceList, example: WorkedExample) -> None:
    """Periods are whole months of UTC, as the subscriptions of a customer in UTC have them."""
    assert (example.period.start.day, (example.period.end - timedelta(days=1)).month) == (1, example.period.start.month)
    assert all(example.period.start <= event.at < example.period.end for event in example.events)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("### No usage\n\n| line |\n", id="a section without usage"),
        pytest.param(
            "### X\n```yaml\nperiod: 2026-03-01/2026-04-01\nevents: []\n```\n| fee | 1 | five | 5.00 |\n",
            id="a row without numbers",
        ),
        pytest.param(
            "### X\n```yaml\nperiod: 2026-03-01/2026-04-01\nevents: []\n```\n| fee | 1 | 5 | 5.00 |\n",
            id="a table without total",
        ),
    ],
)
def test_what_cannot_be_read_is_never_skipped(broken: str) -> None:
    with pytest.raises(AssertionError):
        worked_examples(broken)
