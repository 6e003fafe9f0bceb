"""What is wrong with the parameters of a price model, by the field names that clients use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import assert_never

from libs.errors import Violation
from libs.money import plain
from services.rating.domain.number_checks import check_divisor, check_number
from services.rating.domain.prices import (
    AnyPriceModel,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    LinesBefore,
    Matrix,
    Package,
    Percentage,
    PerUnit,
    Stairstep,
    Tier,
    TimeOfDay,
    Volume,
)
from services.rating.domain.windows_validation import check_time_of_day

MAX_TIERS = 100
MAX_ROWS = 1_000

_Number = tuple[str, Decimal]


def check_model(model: AnyPriceModel, path: str = "price") -> list[Violation]:
    """Everything wrong with the parameters of a model; `path` is where its price lies in the request."""
    return [violation for violation in _found(model, path) if violation]


def _found(model: AnyPriceModel, path: str) -> Iterator[Violation | None]:
    match model:
        case Flat(amount):
            yield check_number(amount, f"{path}.flat.amount")
        case PerUnit(unit_amount, per):
            yield check_number(unit_amount, f"{path}.per_unit.unit_amount")
            yield check_divisor(per, f"{path}.per_unit.per")
        case Package(size, amount):
            yield check_number(size, f"{path}.package.package_size", above_zero=True)
            yield check_number(amount, f"{path}.package.package_amount")
        case Graduated(tiers) | Volume(tiers):
            kind = "graduated" if isinstance(model, Graduated) else "volume"
            yield from _check_tiers(tiers, f"{path}.{kind}.tiers")
        case Stairstep(steps):
            at = f"{path}.stairstep.steps"
            yield from _check_bounds([step.up_to for step in steps], at)
            for index, step in enumerate(steps[:MAX_TIERS]):
                yield check_number(step.amount, f"{at}[{index}].amount")
        case GraduatedPercentage(percentage_tiers):
            at = f"{path}.graduated_percentage.tiers"
            yield from _check_bounds([tier.up_to for tier in percentage_tiers], at)
            for index, percentage_tier in enumerate(percentage_tiers[:MAX_TIERS]):
                yield check_number(percentage_tier.rate_percent, f"{at}[{index}].rate_percent")
                yield check_number(percentage_tier.flat_amount, f"{at}[{index}].flat_amount")
        case Percentage(rate_percent, fixed_per_event):
            yield check_number(rate_percent, f"{path}.percentage.rate_percent")
            yield check_number(fixed_per_event, f"{path}.percentage.fixed_per_event")
        case Dynamic(multiplier):
            yield check_number(multiplier, f"{path}.dynamic.multiplier")
        case Matrix() | TimeOfDay():
            yield from _check_split(model, path)
        case LinesBefore():
            return
        case _:
            assert_never(model)


def _check_tiers(tiers: Sequence[Tier], path: str) -> Iterator[Violation | None]:
    yield from _check_bounds([tier.up_to for tier in tiers], path)
    for index, tier in enumerate(tiers[:MAX_TIERS]):
        yield check_number(tier.unit_amount, f"{path}[{index}].unit_amount")
        yield check_number(tier.flat_amount, f"{path}[{index}].flat_amount")
        if tier.cap_amount is not None:
            yield check_number(tier.cap_amount, f"{path}[{index}].cap_amount")


def _check_bounds(bounds: Sequence[Decimal | None], path: str) -> Iterator[Violation | None]:
    """Of tiers or steps."""
    if not bounds:
        yield Violation(path, "REQUIRED", "must have at least one tier")
    if len(bounds) > MAX_TIERS:
        yield Violation(path, "TOO_MANY", f"must have at most {MAX_TIERS} tiers")
        return
    previous: Decimal | None = None
    for index, up_to in enumerate(bounds):
        yield _check_bound(up_to, previous, f"{path}[{index}].up_to", is_last=index == len(bounds) - 1)
        if up_to is not None and up_to.is_finite():
            previous = up_to


def _check_bound(up_to: Decimal | None, previous: Decimal | None, field: str, *, is_last: bool) -> Violation | None:
    if is_last:
        return None if up_to is None else Violation(field, "LAST_TIER_BOUNDED", "the last tier must be open")
    if up_to is None:
        return Violation(field, "REQUIRED", "only the last tier may be open")
    if violation := check_number(up_to, field, above_zero=True):
        return violation
    if previous is not None and up_to <= previous:
        return Violation(field, "NOT_INCREASING", f"must be above the previous bound {plain(previous)}")
    return None


def _check_split(model: Matrix | TimeOfDay, path: str) -> Iterator[Violation | None]:
    """Models that price parts of a quantity."""
    if isinstance(model, TimeOfDay):
        yield from check_time_of_day(model, f"{path}.time_of_day")
    else:
        yield from _check_matrix(model, f"{path}.matrix")


def _check_matrix(model: Matrix, path: str) -> Iterator[Violation | None]:
    yield check_number(model.default_unit_amount, f"{path}.default_unit_amount")
    yield check_divisor(model.per, f"{path}.per")
    if len(model.rows) > MAX_ROWS:
        yield Violation(f"{path}.rows", "TOO_MANY", f"must have at most {MAX_ROWS} rows")
        return
    seen: set[tuple[tuple[str, str], ...]] = set()
    for index, row in enumerate(model.rows):
        at = f"{path}.rows[{index}]"
        yield check_number(row.unit_amount, f"{at}.unit_amount")
        if not row.match:
            yield Violation(f"{at}.match", "REQUIRED", "must name a dimension; the rest has default_unit_amount")
        if row.match in seen:
            yield Violation(f"{at}.match", "NOT_UNIQUE", "is that of another row")
        seen.add(row.match)
