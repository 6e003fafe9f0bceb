"""Prices for tests: data literals and Hypothesis strategies of valid models."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from libs.money import exact
from services.rating.domain.prices import Flat, Graduated, Package, PerUnit, PriceModel, Tier, Volume


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


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    positive = decimals("0.000000000001", "99999999999999999999")
    bounds = sorted(draw(st.lists(positive, max_size=4, unique=True)))
    return tuple(Tier(bound, draw(amounts), draw(amounts)) for bound in [*bounds, None])


models: st.SearchStrategy[PriceModel] = st.one_of(
    st.builds(Flat, amounts),
    st.builds(PerUnit, amounts),
    st.builds(Package, decimals("0.000000000001", "1000000"), amounts),
    st.builds(Graduated, tiers()),
    st.builds(Volume, tiers()),
)
