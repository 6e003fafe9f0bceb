"""The examples of docs/guides/pricing.md are cards that can be made, and cost what the guide says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from libs.cli.yaml_messages import read_documents, to_yaml
from libs.money import plain, round_to_minor
from libs.periods import Period
from services.rating.domain.charges import Charge, rate_card_charges
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.proration import PartOfPeriod
from services.rating.domain.rate_card import RateCard
from services.rating.domain.rated_price import PartKind
from services.rating.domain.usage import DimensionedQuantity
from services.rating.domain.usage_by_window import WindowedUsage, WindowQuantity, place_at
from services.rating.domain.validation import check_rate_card
from services.rating.domain.windowed_price import cuts_of
from services.rating.wire.card_reading import Reading
from services.rating.wire.price_overrides import override_from_pb
from services.rating.wire.rate_cards import rate_card_message
from steelyard.rating.v1 import price_override_service_pb2 as override_pb
from steelyard.rating.v1 import rate_card_pb2 as pb
from tests.support.rate_card_files import valid_cards

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "pricing.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\w+) \| ([\d.]*) ?\| ([\d]*) ?\| ([\d.]+) \|$", re.MULTILINE)
BERLIN = ZoneInfo("Europe/Berlin")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
OVERRIDES = [block for block in BLOCKS if block.startswith("override_id")]


def cards() -> dict[str, RateCard]:
    return {card.rate_card_id: card for block in BLOCKS if block not in OVERRIDES for card in valid_cards(block)}


CARDS = cards()
COSTS = [tuple(match.groups()) for match in ROW.finditer(GUIDE)]


def test_there_are_examples() -> None:
    names = {"models", "agreed", "together", "matrix", "prorated", "annual", "windows", "time_of_day"}
    assert set(CARDS) == names
    priced = {price.price_id for name in ("models", "agreed") for price in CARDS[name].prices}
    assert {name for name, _, _, _ in COSTS} == priced


def test_an_override_is_one_that_can_be_made() -> None:
    (document,) = read_documents(OVERRIDES[0], override_pb.PriceOverride)
    reading = Reading()
    override = override_from_pb(document.message, reading)
    card = RateCard(override.rate_card_id, 0, "USD", None, override.prices)
    assert (reading.violations, check_rate_card(card)) == ([], [])


@pytest.mark.parametrize(("price_id", "quantity", "events", "amount"), COSTS)
def test_they_cost_what_the_guide_says(price_id: str, quantity: str, events: str, amount: str) -> None:
    card = next(card for card in CARDS.values() if any(price.price_id == price_id for price in card.prices))
    meter_id = next(price.meter_id for price in card.prices if price.price_id == price_id) or ""
    charges = rate_card_charges(card, {meter_id: Decimal(quantity or 0)}, {meter_id: int(events or 0)})
    assert next(charge.amount for charge in charges if charge.price_id == price_id) == Decimal(amount)


def test_what_is_agreed_on_for_several_prices_comes_to_what_the_guide_says() -> None:
    charges = rate_card_charges(CARDS["together"], {"calls": Decimal(1000), "gpu_hours": Decimal(10)})
    lines = [round_to_minor(charge.amount, "USD", charge.price.rounding_mode).minor_units for charge in charges]
    assert (lines, sum(lines)) == ([1000, 1999, -300, 7301], 10000)


def test_a_matrix_comes_to_what_the_guide_says() -> None:
    sms = [
        DimensionedQuantity(dimensions, Decimal(quantity))
        for quantity, dimensions in (
            (1000, {"country": "US"}),
            (10, {"country": "US", "kind": "mms"}),
            (5, {"country": "BR"}),
        )
    ]
    (charge,) = rate_card_charges(CARDS["matrix"], {"sms": Decimal(1015)}, by_dimensions={"sms": sms})
    assert [part.amount for part in charge.rated.parts] == [Decimal("8"), Decimal("0.2"), Decimal("0.5")]


def test_a_part_of_a_period_comes_to_what_the_guide_says() -> None:
    month = Period(datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC))
    part = PartOfPeriod(Period(datetime(2026, 3, 14, 23, tzinfo=UTC), month.end), month, "Europe/Berlin")
    charges = rate_card_charges(CARDS["prorated"], {"messages": Decimal(2000)}, shortened=part)
    said = dict(re.findall(r"^\| (\w+) \| [^|]*\| (\d+\.\d\d) \|$", GUIDE, re.MULTILINE))
    shares = re.findall(r"\| (\d+) of (\d+) (days|seconds)", GUIDE)

    assert {charge.price_id: charge.amount for charge in charges} == {name: Decimal(said[name]) for name in said}
    assert [
        (plain(part.quantity), plain(part.per), part.label)
        for charge in charges
        for part in charge.rated.parts
        if part.kind is PartKind.PRORATED
    ] == shares


def test_a_term_comes_to_what_the_guide_says() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", GUIDE, re.MULTILINE)
    used = total = Decimal(0)
    for number, (_, calls, cost, used_before, left, line) in enumerate(rows, 1):
        so_far = TermSoFar(number, number == 12, used)
        (charge,) = rate_card_charges(CARDS["annual"], {"calls": Decimal(calls)}, so_far={"calls": so_far})
        parts = {part.kind: part.quantity for part in charge.rated.parts}
        assert (charge.rated.before_commitment, charge.amount) == (Decimal(cost), Decimal(line))
        assert (parts[PartKind.TERM_USED], parts[PartKind.TERM_LEFT]) == (Decimal(used_before), Decimal(left))
        used, total = used + Decimal(cost), total + charge.amount
    assert (len(rows), total) == (12, Decimal("17040.00"))


def used_at(card: str, meter_id: str, zone: str, *used: tuple[datetime, int]) -> Charge:
    """What usage of March 2026 costs, told as it is read: by the cut that the price needs."""
    march = Period(datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC))
    quantities = {meter_id: Decimal(sum(quantity for _, quantity in used))}
    by_cut = {
        cut: [
            WindowQuantity(place_at(at.astimezone(UTC), march, cut.cut, cut.time_zone), Decimal(quantity))
            for at, quantity in (used if cut.meter_id == meter_id else ())
        ]
        for cut in cuts_of(CARDS[card], zone)
    }
    charges = rate_card_charges(CARDS[card], quantities, windowed=WindowedUsage(march, zone, by_cut))
    return next(charge for charge in charges if charge.meter_id == meter_id)


def test_windows_come_to_what_the_guide_says() -> None:
    noon = datetime(2026, 3, 2, 12, tzinfo=BERLIN)
    gpu = used_at("windows", "gpu_hours", BERLIN.key, (noon, 6), (noon + timedelta(hours=1), 3))
    assert gpu.rated.parts[0].quantity == 743
    assert gpu.amount == Decimal("7437.50")
    assert f"743 x 10.00 + 7.50 for the two above four: {gpu.amount:.2f}." in GUIDE
    requests = used_at("windows", "requests", BERLIN.key, (noon, 12_000), (noon + timedelta(days=1), 9_000))
    assert f"12,000 requests on one day and 9,000 on the next it is {requests.amount:.2f}." in GUIDE


def test_times_of_day_come_to_what_the_guide_says() -> None:
    saturday = datetime(2026, 3, 7, 3, tzinfo=BERLIN)
    noon, monday = saturday + timedelta(hours=9), saturday + timedelta(days=2, hours=9)
    charge = used_at("time_of_day", "kwh", "UTC", (saturday, 20), (noon, 10), (monday, 10))
    assert [part.label for part in charge.rated.parts] == ["night", "weekend", "other"]
    said = " + ".join(f"{part.amount:.2f}" for part in charge.rated.parts)
    assert f"10 at noon of a Monday cost {said}." in GUIDE


@pytest.mark.parametrize("name", sorted(CARDS))
def test_an_export_is_the_same_card(name: str) -> None:
    message = rate_card_message(CARDS[name])
    (document,) = read_documents(to_yaml(message), pb.RateCard)
    assert document.message == message
