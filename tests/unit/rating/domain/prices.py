"""Prices for tests: data literals and Hypothesis strategies of valid models."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import assume
from hypothesis import strategies as st

from libs.money import RoundingFunction, exact
from services.rating.domain.price_terms import (
    AmountDiscount,
    Commitment,
    CommitmentKind,
    ConversionOperation,
    PercentDiscount,
    PriceTerms,
    UnitConversion,
)
from services.rating.domain.price_unit import PriceUnit
from services.rating.domain.prices import (
    Dynamic,
    EmptyWindows,
    Flat,
    Graduated,
    GraduatedPercentage,
    LinesBefore,
    Matrix,
    MatrixRow,
    Package,
    PackageRounding,
    Percentage,
    PercentageTier,
    PerUnit,
    PriceModel,
    PricingOptions,
    Stairstep,
    Step,
    Tier,
    TimeBand,
    TimeOfDay,
    Volume,
    WindowPricing,
    WindowSize,
    ZeroQuantityFlat,
)
from services.rating.domain.rate_card import Price
from services.rating.domain.validation import check_price


def tier(up_to: str | None, unit_amount: str, flat_amount: str = "0") -> Tier:
    return Tier(None if up_to is None else Decimal(up_to), Decimal(unit_amount), Decimal(flat_amount))


def decimals(low: str, high: str, places: int = 12) -> st.SearchStrategy[Decimal]:
    """Any decimal with up to `places` digits after the point (Hypothesis' own shrinks badly at this width)."""
    with exact():
        scale = Decimal(10) ** places
        bounds = int(Decimal(low) * scale), int(Decimal(high) * scale)
    return st.integers(*bounds).map(lambda units: Decimal(f"{units}E-{places}"))


amounts = decimals("0", "99999999999999999999.999999999999")
quantities = amounts | st.sampled_from([Decimal(0), Decimal(1), Decimal(10)])
signed_quantities = quantities | decimals("-99999999999999999999", "0")


positive = decimals("0.000000000001", "99999999999999999999")
divisors = st.sampled_from([Decimal(number) for number in ("1", "1000", "1024", "0.125", "1073741824")])


@st.composite
def bounds(draw: st.DrawFn) -> list[Decimal | None]:
    return [*sorted(draw(st.lists(positive, max_size=4, unique=True))), None]


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    caps = st.none() | amounts
    return tuple(Tier(bound, draw(amounts), draw(amounts), draw(caps)) for bound in draw(bounds()))


@st.composite
def stairsteps(draw: st.DrawFn) -> Stairstep:
    """Each step costs at least what the one below it costs, which nobody demands of a price."""
    ends = draw(bounds())
    costs = sorted(draw(st.lists(amounts, min_size=len(ends), max_size=len(ends))))
    return Stairstep(tuple(Step(bound, cost) for bound, cost in zip(ends, costs, strict=True)))


@st.composite
def percentage_tiers(draw: st.DrawFn) -> tuple[PercentageTier, ...]:
    return tuple(PercentageTier(bound, draw(amounts), draw(amounts)) for bound in draw(bounds()))


models: st.SearchStrategy[PriceModel] = st.one_of(
    st.builds(Flat, amounts),
    st.builds(PerUnit, amounts, divisors),
    st.builds(Package, decimals("0.000000000001", "1000000"), amounts, st.sampled_from(PackageRounding)),
    st.builds(Graduated, tiers()),
    st.builds(Volume, tiers()),
    stairsteps(),
    st.builds(GraduatedPercentage, percentage_tiers()),
    st.builds(Percentage, amounts, amounts),
    st.builds(Dynamic, amounts),
)

options = st.builds(PricingOptions, st.sampled_from(ZeroQuantityFlat))
conversions = st.builds(
    UnitConversion,
    st.sampled_from(ConversionOperation),
    divisors,
    st.none() | st.sampled_from(RoundingFunction),
    st.integers(-20, 12),
)
factors = decimals("1", "10", 4)
percents = decimals("0.0001", "100", 4)
terms = st.builds(
    PriceTerms,
    st.none() | conversions,
    st.none() | decimals("0", "1000"),
    st.none() | decimals("1000", "99999999999999999999"),
    st.none() | st.builds(Commitment, st.sampled_from(CommitmentKind), positive, factors, st.booleans()),
    st.lists(st.builds(PercentDiscount, percents) | st.builds(AmountDiscount, positive), max_size=3).map(tuple),
)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    """Any valid price of a meter's quantity."""
    model = draw(models.filter(lambda model: not isinstance(model, Flat)))
    price = Price("p", model, "m", draw(quantities), options=draw(options), terms=draw(terms))
    assume(not check_price(price))
    return price


matches = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y", "="]), min_size=1).map(
    lambda match: tuple(sorted(match.items()))
)
matrices = st.builds(
    Matrix,
    st.lists(st.builds(MatrixRow, matches, amounts), max_size=5, unique_by=lambda row: row.match).map(tuple),
    amounts,
    divisors,
)
any_prices = prices() | st.one_of(
    st.builds(Price, st.just("p"), matrices, st.just("m")),
    st.builds(
        Price,
        st.just("p"),
        st.just(LinesBefore()),
        terms=st.builds(PriceTerms, minimum_amount=amounts, discounts=st.just((PercentDiscount(Decimal(5)),))),
    ),
)
"""Any valid price."""

price_units = st.builds(PriceUnit, st.sampled_from(["credits", "coins"]), decimals("0.000001", "1000", 6))


@st.composite
def prices_in_units(draw: st.DrawFn) -> Price:
    """Any valid price whose amounts are no money."""
    price = draw(prices() | st.builds(Price, st.just("p"), st.builds(Flat, amounts)))
    price = replace(price, terms=replace(price.terms, price_unit=draw(price_units)))
    assume(not check_price(price))
    return price


quarters = st.integers(0, 95).map(lambda quarter: quarter * 15)
time_bands = st.builds(
    TimeBand,
    st.sampled_from("abc"),
    quarters,
    quarters,
    amounts,
    st.lists(st.integers(0, 6), unique=True).map(tuple),
)
times_of_day = st.builds(
    TimeOfDay,
    st.lists(time_bands, min_size=1, max_size=3).map(tuple),
    amounts,
    divisors,
    st.sampled_from(["", "Asia/Kathmandu"]),
)


@st.composite
def window_prices(draw: st.DrawFn) -> Price:
    """Any valid price of windows."""
    per_window = WindowPricing(draw(st.sampled_from(WindowSize)), draw(st.sampled_from(EmptyWindows)))
    price = replace(draw(prices()), per_window=per_window)
    assume(not check_price(price))
    return price


windowed_prices = window_prices() | st.builds(Price, st.just("p"), times_of_day, st.just("m"))
"""Any valid price that needs usage by windows."""
