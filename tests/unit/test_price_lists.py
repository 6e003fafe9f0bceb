"""Every folder of examples/price-lists can be applied, and what its README works out comes out to the last digit.

Events are measured, aggregated and priced by the functions that the services use.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from libs.cli.meter_files import read_meters
from libs.money import exact, round_to_minor
from libs.periods import Period
from services.ingest.domain.aggregations import AggregationPeriod, EventColumns, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.measuring import MeterReading, measure
from services.ingest.domain.meter import Meter, meter_violations
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.wire.meters import meter_from_pb
from services.rating.domain.charges import Charge, rate_card_charges
from services.rating.domain.meter_use import meter_violations as use_violations
from services.rating.domain.prices import Graduated, Matrix, PerUnit, TimeOfDay
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind
from services.rating.domain.usage import DimensionedQuantity, MeterFacts
from services.rating.domain.usage_by_window import MeterCut, WindowedUsage, WindowQuantity, place_at
from services.rating.domain.validation import check_price
from services.rating.domain.windowed_price import cuts_of
from tests.support.price_lists import ROOT, PriceList, SentEvent, WorkedExample, price_lists, worked_examples
from tests.support.rate_card_files import valid_cards

LISTS = price_lists()
EXAMPLES = [
    pytest.param(found, example, id=f"{found.name}: {example.title}") for found in LISTS for example in found.examples
]
of_every_list = pytest.mark.parametrize("price_list", LISTS, ids=lambda found: found.name)
of_every_example = pytest.mark.parametrize(("price_list", "example"), EXAMPLES)


FREE_FIRST_TIER = """
rate_card_id: other
currency: EUR
prices:
- price_id: emails
  meter_id: tiers-emails
  graduated:
    tiers:
    - {up_to: 10000, unit_amount: 0}
    - {up_to: 100000, unit_amount: 0.0009}
    - {up_to: 1000000, unit_amount: 0.0006}
    - {unit_amount: 0.0004}
"""


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


def by_windows(reading: MeterReading, events: UsageColumns, period: Period, cut: MeterCut) -> list[WindowQuantity]:
    whole = AggregationPeriod(to_ns(period.start), to_ns(period.end))
    places: Mapping[int, list[int]] = defaultdict(list)
    for row, event in enumerate(reading.rows):
        at = datetime.fromtimestamp(events.times_ns[event] // 1_000_000_000, UTC)
        places[place_at(at, period, cut.cut, cut.time_zone)].append(row)
    return [WindowQuantity(place, quantity(reading, rows, events, whole)) for place, rows in places.items()]


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
    readings = {reading.meter.meter_id: reading for reading in measured.readings}
    by_cut = {
        cut: by_windows(readings[cut.meter_id], events, example.period, cut) if cut.meter_id in readings else []
        for cut in cuts_of(card, "UTC")
    }
    windowed = WindowedUsage(example.period, "UTC", by_cut)
    counts = {reading.meter.meter_id: len(reading.rows) for reading in measured.readings}
    return rate_card_charges(card, usage, counts, dimensions, windowed=windowed)


def test_all_folders_are_there_and_listed() -> None:
    index = (ROOT / "README.md").read_text("utf-8")
    assert [found.name for found in LISTS] == [
        "cdn-95-5",
        "flat-fee-and-overage",
        "gpu-by-the-hour",
        "included-usage-and-tiers",
        "llm-api",
        "object-storage",
        "pay-as-you-go",
        "sms-by-country",
    ]
    assert all(f"]({found.name}/README.md)" in index for found in LISTS)


@pytest.mark.parametrize("readme", sorted(ROOT.rglob("README.md")), ids=lambda path: path.parent.name)
def test_links_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([\w-]+))?\)", readme.read_text("utf-8"))
    for target, anchor in links:
        text = (readme.parent / target).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


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


def bounds_of(price: Price) -> set[str]:
    """What names the rows of a matrix, the bands of a day, or the tiers, in the parts of a charge."""
    match price.model:
        case Matrix(rows=rows):
            return {"other", *(", ".join(f"{name}={value}" for name, value in row.match) for row in rows)}
        case TimeOfDay(bands=bands):
            return {"other", *(band.label for band in bands)}
        case Graduated(tiers=tiers):
            return {str(tier.up_to) for tier in tiers}
        case _:
            return set()


@of_every_list
def test_examples_use_every_row_and_every_tier(price_list: PriceList) -> None:
    """So that no price of a card can be wrong unnoticed."""
    used: dict[str, set[str]] = defaultdict(set)
    for example in price_list.examples:
        for charge in charges_of(price_list, example):
            for part in charge.rated.parts:
                if part.quantity and part.kind in {PartKind.ROW, PartKind.BAND, PartKind.TIER}:
                    name = str(part.up_to_quantity) if part.kind is PartKind.TIER else part.label
                    used[charge.price_id].add(name)
    for price in card_of(price_list).prices:
        assert used[price.price_id] == bounds_of(price), price.price_id


@of_every_list
def test_examples_use_every_price(price_list: PriceList) -> None:
    used = {line.price_id for example in price_list.examples for line in example.lines if line.amount}
    assert used == {price.price_id for price in card_of(price_list).prices}


@of_every_example
def test_events_lie_in_the_month_of_their_example(price_list: PriceList, example: WorkedExample) -> None:
    """Periods are whole months of UTC, as subscriptions of customers in UTC have them, one month for each folder."""
    assert example.period == price_list.examples[0].period
    assert (example.period.start.day, (example.period.end - timedelta(days=1)).month) == (1, example.period.start.month)
    assert all(example.period.start <= event.at < example.period.end for event in example.events)


@pytest.mark.parametrize("used", [0, 1, 10_000, 10_001, 100_000, 100_001, 1_000_000, 1_000_001])
def test_a_first_tier_that_is_free_costs_what_included_usage_does(used: int) -> None:
    (card,) = valid_cards((ROOT / "included-usage-and-tiers" / "ratecard.yaml").read_text("utf-8"))
    (other,) = valid_cards(FREE_FIRST_TIER)
    usage = {"tiers-emails": Decimal(used)}
    assert rate_card_charges(card, usage)[0].amount == rate_card_charges(other, usage)[0].amount


def test_a_price_per_hour_is_refused_for_milliseconds() -> None:
    """As the README of the LLM API says."""
    price = Price("session", PerUnit(Decimal("0.08"), Decimal(3_600_000)), meter_id="llm-session-ms")
    assert [found.reason for found in check_price(price)] == ["NOT_EXACT"]


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
