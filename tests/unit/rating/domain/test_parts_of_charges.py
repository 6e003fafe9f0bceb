"""Events, lines, windows and blocks: what holds for any of them. Their answers are in the public vectors."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import RoundingMode, round_amount, to_quotient_scale
from services.rating.domain.cumulative_commitment import CumulativeCommitment, rate_committed_period
from services.rating.domain.parts import (
    BlockTier,
    BlockTiers,
    CapacityTier,
    EventPercentage,
    FreeUsage,
    LinePosition,
    MaxSpend,
    MinSpend,
    PaymentTerm,
    PricedTime,
    ProratedChange,
    SplitAmount,
    UsageLine,
    Window,
    adjusted_total,
    discount_shares,
    flat_line,
    included_in_line,
    progressive_lines,
    rate_blocks,
    rate_capacity,
    rate_events,
    rate_line,
    rate_prorated_units,
    rate_windows,
    shared_commitment,
)
from services.rating.domain.price_terms import AmountDiscount, PercentDiscount
from services.rating.domain.prices import DEFAULT_OPTIONS, Flat, Graduated, PerUnit, Volume, ZeroQuantityFlat
from services.rating.domain.pricing import amount_of
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import QuantityOutsideTiers
from tests.unit.rating.domain.prices import tier

values = st.decimals("0", "10000", places=3)
GRADUATED = Graduated((tier("5", "1", "100"), tier("20.5", "0.5", "3"), tier(None, "0.1")))
VOLUME = Volume((tier("5", "2"), tier(None, "1", "3")))


def cents(amount: Decimal | Fraction) -> Decimal:
    return round_amount(to_quotient_scale(amount), 2, RoundingMode.HALF_UP)


class TestEvents:
    @given(st.lists(values), st.none() | st.integers(0, 5), st.none() | values, st.sampled_from(FreeUsage))
    def test_parts_add_up(
        self, used: list[Decimal], events: int | None, amount: Decimal | None, usage: FreeUsage
    ) -> None:
        price = EventPercentage(Decimal("2.9"), Decimal("0.3"), events, amount, free_usage=usage)
        rated = rate_events(price, used)

        assert rated.amount == sum(event.amount for event in rated.events)
        assert rated.amount == rated.percentage_amount + rated.fixed_amount
        assert sum((event.free_units + event.paid_units for event in rated.events), Decimal(0)) == sum(used)
        if amount is not None:
            assert sum((event.free_units for event in rated.events), Decimal(0)) <= amount
        if events is not None:
            assert sum(not event.is_paid for event in rated.events) <= events

    @given(st.lists(values, min_size=1), values, values, st.none() | st.integers(0, 3))
    def test_a_paid_event_costs_what_its_bounds_allow(
        self, used: list[Decimal], one: Decimal, other: Decimal, events: int | None
    ) -> None:
        low, high = sorted((one, other))
        price = EventPercentage(Decimal(1), Decimal(0), events, None, low, high, FreeUsage.PER_EVENT)
        assert all(low <= event.amount <= high for event in rate_events(price, used).events if event.is_paid)

    @given(st.lists(values))
    def test_without_limits_it_is_the_percentage_of_the_sum(self, used: list[Decimal]) -> None:
        assert rate_events(EventPercentage(Decimal(10)), used).amount == sum(used, Decimal(0)) / 10

    @pytest.mark.parametrize(
        "wrong",
        [
            {"rate_percent": Decimal(-1)},
            {"free_events": -1},
            {"min_per_event": Decimal(2), "max_per_event": Decimal(1), "free_usage": FreeUsage.PER_EVENT},
            {"min_per_event": Decimal(2)},
        ],
        ids=["rate", "events", "bounds", "bounds-of-the-aggregate"],
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"must|need"):
            EventPercentage(**({"rate_percent": Decimal(1)} | wrong))  # type: ignore[arg-type]


class TestLines:
    @given(st.lists(values, min_size=1, max_size=5), st.sampled_from([GRADUATED, VOLUME, PerUnit(Decimal("0.13"))]))
    def test_add_up_to_the_whole_however_it_is_cut(
        self, parts: list[Decimal], model: Graduated | Volume | PerUnit
    ) -> None:
        start, total = Decimal(0), Decimal(0)
        for number, part in enumerate(parts):
            first, last = number == 0, number == len(parts) - 1
            position = (
                LinePosition.SINGLE
                if first and last
                else LinePosition.FIRST
                if first
                else LinePosition.LAST
                if last
                else LinePosition.MID
            )
            line = UsageLine(start, start + part, position)
            total += rate_line(model, line, DEFAULT_OPTIONS, [], to_quotient_scale).total
            start += part
        assert total == amount_of(model, start)

    @given(values, values, values, values)
    def test_never_exceed_the_maximum_and_meet_the_minimum_at_the_end(
        self, start: Decimal, more: Decimal, billed: Decimal, bound: Decimal
    ) -> None:
        last = UsageLine(start, start + more, LinePosition.LAST, billed)
        most = rate_line(GRADUATED, last, DEFAULT_OPTIONS, [MaxSpend(bound)], cents)
        least = rate_line(GRADUATED, last, DEFAULT_OPTIONS, [MinSpend(bound)], cents)
        mid = rate_line(GRADUATED, last._replace(position=LinePosition.MID), DEFAULT_OPTIONS, [MinSpend(bound)], cents)

        assert billed + most.total <= max(bound, billed)
        assert billed + least.total >= bound
        assert mid.minimum_charge == 0
        assert most.total == most.amount - most.discount + most.minimum_charge

    def test_adjustments_act_in_their_order(self) -> None:
        half, most, least = PercentDiscount(Decimal(50)), MaxSpend(Decimal(30)), MinSpend(Decimal(20))
        assert adjusted_total(Decimal(80), [half, most], ends_period=False) == 30
        assert adjusted_total(Decimal(80), [most, half, least], ends_period=False) == 15
        assert adjusted_total(Decimal(80), [most, half, least], ends_period=True) == 20

    def test_alone_a_line_costs_its_own_usage(self) -> None:
        line = UsageLine(Decimal(70), Decimal(120), LinePosition.MID)
        alone = rate_line(PerUnit(Decimal("1.33333")), line, DEFAULT_OPTIONS, [], cents, SplitAmount.LINE_QUANTITY)
        assert alone.amount == Decimal("66.67")

    @pytest.mark.parametrize(
        ("term", "due"),
        [(PaymentTerm.ADVANCE, {"single", "first"}), (PaymentTerm.ARREARS, {"single", "last"})],
        ids=["advance", "arrears"],
    )
    def test_a_flat_fee_is_on_one_of_them(self, term: PaymentTerm, due: set[str]) -> None:
        assert {str(at) for at in LinePosition if flat_line(Flat(Decimal(7)), term, at)} == due

    @given(values, st.lists(values, min_size=1))
    def test_what_is_included_is_used_up_once(self, included: Decimal, parts: list[Decimal]) -> None:
        start, free = Decimal(0), Decimal(0)
        for part in parts:
            free += included_in_line(included, UsageLine(start, start + part, LinePosition.MID))
            start += part
        assert free == min(included, start)

    @given(st.lists(st.decimals("-100", "100", places=4), min_size=1))
    def test_progressive_lines_come_to_the_last_total_rounded_once(self, totals: list[Decimal]) -> None:
        assert sum(progressive_lines(totals, cents)) == cents(totals[-1])


class TestProratedUnits:
    @given(st.lists(st.integers(1, 40), max_size=6))
    def test_units_of_the_whole_period_cost_what_the_tiers_say(self, added: list[int]) -> None:
        changes = [ProratedChange(Decimal(full), Decimal(full)) for full in added]
        found = rate_prorated_units(GRADUATED, changes, ZeroQuantityFlat.CHARGE_FIRST_TIER)
        assert found == Fraction(amount_of(GRADUATED, Decimal(sum(added))))

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    def test_what_is_removed_at_once_costs_only_the_flat_amounts(self, added: list[int]) -> None:
        changes = [ProratedChange(Decimal(full), Decimal(full) / 2) for full in added]
        undone = [ProratedChange(-change.full, -change.prorated) for change in reversed(changes)]
        nothing = ZeroQuantityFlat.NO_CHARGE
        tiers = tuple(tier(str(t.up_to) if t.up_to else None, "0", str(t.flat_amount)) for t in GRADUATED.tiers)
        flat = rate_prorated_units(Graduated(tiers), changes, nothing)
        assert rate_prorated_units(GRADUATED, changes + undone, nothing) == flat

    def test_more_removed_than_was_there_costs_no_unit(self) -> None:
        changes = [ProratedChange(Decimal(2), Decimal(2)), ProratedChange(Decimal(-3), Decimal("-0.1"))]
        assert rate_prorated_units(GRADUATED, changes, ZeroQuantityFlat.NO_CHARGE) == 100
        assert rate_prorated_units(GRADUATED, [], ZeroQuantityFlat.NO_CHARGE) == 0


class TestBlocks:
    TIERS = (BlockTier(Decimal(10), Decimal(3), Decimal(2)), BlockTier(Decimal(7), Decimal(2), Decimal(1)))

    @given(values)
    def test_hold_the_whole_quantity_and_no_block_too_many(self, quantity: Decimal) -> None:
        parts = rate_blocks(self.TIERS, quantity, BlockTiers.ALL_TIERS)
        held = sum((part.blocks * t.block_size for part, t in zip(parts, self.TIERS, strict=False)), Decimal(0))
        assert held >= quantity
        assert not parts or held - quantity < self.TIERS[len(parts) - 1].block_size

    @pytest.mark.parametrize(
        ("quantity", "amount"), [("0", 0), ("0.1", 2), ("30", 6), ("30.1", 5), ("44", 7), ("1000", 143)]
    )
    def test_the_top_tier_prices_all_of_it(self, quantity: str, amount: int) -> None:
        parts = rate_blocks(self.TIERS, Decimal(quantity), BlockTiers.TOP_TIER)
        assert sum(part.amount for part in parts) == amount

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(ValueError, match="tier"):
            rate_blocks((), Decimal(1), BlockTiers.ALL_TIERS)
        with pytest.raises(ValueError, match="positive"):
            BlockTier(Decimal(0), None, Decimal(1))


def test_capacity_is_of_the_first_tier_that_holds_everything() -> None:
    tiers = [
        CapacityTier({"a": Decimal(1), "b": Decimal(5)}, Decimal(10)),
        CapacityTier({"a": Decimal(2)}, Decimal(20)),
    ]
    assert rate_capacity(tiers, {"a": Decimal(1), "b": Decimal(5)}) == 10
    assert rate_capacity(tiers, {"b": Decimal("5.1")}) == 20
    with pytest.raises(QuantityOutsideTiers):
        rate_capacity(tiers, {"a": Decimal(3)})


class TestWindows:
    def test_are_priced_by_their_local_time_of_day_also_where_clocks_change(self) -> None:
        night = PricedTime(time(22), time(6), Price("night", PerUnit(Decimal(1)), "meter"))
        day = Price("day", PerUnit(Decimal(10)), "meter")
        spring = datetime(2026, 3, 28, 18, tzinfo=UTC)
        windows = [Window(spring + timedelta(hours=hour), Decimal(1)) for hour in range(24)]

        found = rate_windows(windows, ZoneInfo("Europe/Berlin"), day, [night])

        # Berlin: from 19:00 in winter time; the night has seven hours, because clocks go forward.
        assert [int(window.total) for window in found] == [10] * 3 + [1] * 7 + [10] * 14

    def test_that_nothing_prices_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="nothing prices"):
            rate_windows([Window(datetime(2026, 1, 1, tzinfo=UTC), Decimal(1))], ZoneInfo("UTC"), None, [])


class TestCommitmentOverPeriods:
    @given(values, st.lists(values, max_size=6))
    def test_periods_one_by_one_cost_what_they_cost_together(self, promised: Decimal, costs: list[Decimal]) -> None:
        commitment = CumulativeCommitment(promised, Decimal("1.5"))
        periods = [rate_committed_period(commitment, costs[:number], [cost]) for number, cost in enumerate(costs)]
        together = rate_committed_period(commitment, [], costs)

        assert sum((period.total for period in periods), Decimal(0)) == together.total
        assert sum((period.within for period in periods), Decimal(0)) == together.within <= promised

    @given(st.lists(st.integers(0, 10_000), min_size=1), st.integers(0, 100))
    def test_shares_add_up(self, costs: list[int], percent: int) -> None:
        items = {str(number): Decimal(cost) for number, cost in enumerate(costs)}
        within = cents(Decimal(sum(costs)) * percent / 100)
        assert sum(shared_commitment(within, items, 2).values()) == within

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not cheaper"):
            CumulativeCommitment(Decimal(1), Decimal("0.9"))
        with pytest.raises(ValueError, match="digits"):
            shared_commitment(Decimal("0.001"), {"a": Decimal(1)}, 2)


class TestDiscountShares:
    @given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6)))
    def test_of_an_amount_add_up_to_it_or_to_all_there_is(self, amount: int, lines: list[int]) -> None:
        shares = discount_shares(AmountDiscount(Decimal(amount)), lines)
        assert sum(shares) == min(amount, sum(lines))
        assert all(0 <= share <= line for share, line in zip(shares, lines, strict=True))

    def test_of_a_percentage_are_rounded_line_by_line(self) -> None:
        assert discount_shares(PercentDiscount(Decimal("33.33")), [100, 100, 150]) == [33, 33, 50]

    def test_there_is_none_on_a_negative_line(self) -> None:
        with pytest.raises(ValueError, match="negative"):
            discount_shares(PercentDiscount(Decimal(1)), [-1])
