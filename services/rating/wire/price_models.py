"""Price models on the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import assert_never

from libs.money import plain
from services.rating.domain.prices import (
    ONE,
    ZERO,
    AnyPriceModel,
    Dynamic,
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
    Stairstep,
    Step,
    Tier,
    TimeOfDay,
    Volume,
)
from services.rating.wire.card_reading import Reading
from services.rating.wire.windowed_prices import time_of_day_from_pb, time_of_day_to_pb
from steelyard.rating.v1 import rate_card_pb2 as pb

_PACKAGE_ROUNDINGS = {
    pb.PACKAGE_ROUNDING_UNSPECIFIED: PackageRounding.UP,
    pb.PACKAGE_ROUNDING_UP: PackageRounding.UP,
    pb.PACKAGE_ROUNDING_DOWN: PackageRounding.DOWN,
}


def model_from_pb(message: pb.Price, path: str, reading: Reading) -> AnyPriceModel:
    """Return the model of a price; `path` is where the price lies in the request."""
    number = reading.number
    read: dict[str, Callable[[], AnyPriceModel]] = {
        "flat": lambda: Flat(number(message.flat.amount, f"{path}.flat.amount")),
        "per_unit": lambda: PerUnit(
            number(message.per_unit.unit_amount, f"{path}.per_unit.unit_amount"),
            number(message.per_unit.per, f"{path}.per_unit.per", default=ONE),
        ),
        "package": lambda: _package(message.package, f"{path}.package", reading),
        "graduated": lambda: Graduated(_tiers(message.graduated.tiers, f"{path}.graduated.tiers", reading)),
        "volume": lambda: Volume(_tiers(message.volume.tiers, f"{path}.volume.tiers", reading)),
        "stairstep": lambda: Stairstep(_steps(message.stairstep.steps, f"{path}.stairstep.steps", reading)),
        "graduated_percentage": lambda: GraduatedPercentage(
            _percentage_tiers(message.graduated_percentage.tiers, f"{path}.graduated_percentage.tiers", reading)
        ),
        "percentage": lambda: Percentage(
            number(message.percentage.rate_percent, f"{path}.percentage.rate_percent"),
            number(message.percentage.fixed_per_event, f"{path}.percentage.fixed_per_event", default=ZERO),
        ),
        "matrix": lambda: _matrix(message.matrix, f"{path}.matrix", reading),
        "lines_before": LinesBefore,
        "time_of_day": lambda: time_of_day_from_pb(message.time_of_day, f"{path}.time_of_day", reading),
        "dynamic": lambda: Dynamic(number(message.dynamic.multiplier, f"{path}.dynamic.multiplier", default=ONE)),
    }
    kind = message.WhichOneof("model")
    if kind is None:
        reading.add(f"{path}.model", "REQUIRED", "must have one of the price models")
        return PerUnit(ZERO) if message.meter_id else Flat(ZERO)
    return read[kind]()


def model_to_pb(model: AnyPriceModel, message: pb.Price) -> None:
    """Set the model of a price."""
    match model:
        case Flat(amount):
            message.flat.CopyFrom(pb.FlatPrice(amount=plain(amount)))
        case PerUnit(unit_amount, per):
            message.per_unit.CopyFrom(pb.PerUnitPrice(unit_amount=plain(unit_amount), per=_per(per)))
        case Package():
            message.package.CopyFrom(_package_to_pb(model))
        case Graduated(tiers):
            message.graduated.CopyFrom(pb.GraduatedPrice(tiers=map(_tier_to_pb, tiers)))
        case Volume(tiers):
            message.volume.CopyFrom(pb.VolumePrice(tiers=map(_tier_to_pb, tiers)))
        case Stairstep(steps):
            wire_steps = [pb.Step(up_to=_text(step.up_to), amount=plain(step.amount)) for step in steps]
            message.stairstep.CopyFrom(pb.StairstepPrice(steps=wire_steps))
        case GraduatedPercentage(percentage_tiers):
            message.graduated_percentage.CopyFrom(
                pb.GraduatedPercentagePrice(tiers=map(_percentage_tier_to_pb, percentage_tiers))
            )
        case Percentage(rate_percent, fixed_per_event):
            message.percentage.CopyFrom(
                pb.PercentagePrice(rate_percent=plain(rate_percent), fixed_per_event=plain(fixed_per_event))
            )
        case Dynamic(multiplier):
            message.dynamic.CopyFrom(pb.DynamicPrice(multiplier=plain(multiplier)))
        case Matrix():
            message.matrix.CopyFrom(_matrix_to_pb(model))
        case LinesBefore():
            message.lines_before.SetInParent()
        case TimeOfDay():
            message.time_of_day.CopyFrom(time_of_day_to_pb(model))
        case _:
            assert_never(model)


def _package(message: pb.PackagePrice, path: str, reading: Reading) -> Package:
    return Package(
        reading.number(message.package_size, f"{path}.package_size"),
        reading.number(message.package_amount, f"{path}.package_amount"),
        reading.choice(_PACKAGE_ROUNDINGS, message.rounding, f"{path}.rounding", PackageRounding.UP),
    )


def _matrix(message: pb.MatrixPrice, path: str, reading: Reading) -> Matrix:
    rows = tuple(
        MatrixRow(
            tuple(sorted(row.match.items())), reading.number(row.unit_amount, f"{path}.rows[{index}].unit_amount")
        )
        for index, row in enumerate(message.rows)
    )
    return Matrix(
        rows,
        reading.number(message.default_unit_amount, f"{path}.default_unit_amount"),
        reading.number(message.per, f"{path}.per", default=ONE),
    )


def _tiers(tiers: Sequence[pb.Tier], path: str, reading: Reading) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            reading.number_or_none(tier.up_to, f"{path}[{index}].up_to"),
            reading.number(tier.unit_amount, f"{path}[{index}].unit_amount"),
            reading.number(tier.flat_amount, f"{path}[{index}].flat_amount", default=ZERO),
            reading.number_or_none(tier.cap_amount, f"{path}[{index}].cap_amount"),
        )
        for index, tier in enumerate(tiers)
    )


def _steps(steps: Sequence[pb.Step], path: str, reading: Reading) -> tuple[Step, ...]:
    return tuple(
        Step(
            reading.number_or_none(step.up_to, f"{path}[{index}].up_to"),
            reading.number(step.amount, f"{path}[{index}].amount"),
        )
        for index, step in enumerate(steps)
    )


def _percentage_tiers(tiers: Sequence[pb.PercentageTier], path: str, reading: Reading) -> tuple[PercentageTier, ...]:
    return tuple(
        PercentageTier(
            reading.number_or_none(tier.up_to, f"{path}[{index}].up_to"),
            reading.number(tier.rate_percent, f"{path}[{index}].rate_percent"),
            reading.number(tier.flat_amount, f"{path}[{index}].flat_amount", default=ZERO),
        )
        for index, tier in enumerate(tiers)
    )


def _package_to_pb(model: Package) -> pb.PackagePrice:
    message = pb.PackagePrice(package_size=plain(model.size), package_amount=plain(model.amount))
    if model.rounding is PackageRounding.DOWN:
        message.rounding = pb.PACKAGE_ROUNDING_DOWN
    return message


def _matrix_to_pb(model: Matrix) -> pb.MatrixPrice:
    return pb.MatrixPrice(
        rows=[pb.MatrixRow(match=dict(row.match), unit_amount=plain(row.unit_amount)) for row in model.rows],
        default_unit_amount=plain(model.default_unit_amount),
        per=_per(model.per),
    )


def _percentage_tier_to_pb(tier: PercentageTier) -> pb.PercentageTier:
    return pb.PercentageTier(
        up_to=_text(tier.up_to), rate_percent=plain(tier.rate_percent), flat_amount=plain(tier.flat_amount)
    )


def _tier_to_pb(tier: Tier) -> pb.Tier:
    return pb.Tier(
        up_to=_text(tier.up_to),
        unit_amount=plain(tier.unit_amount),
        flat_amount=plain(tier.flat_amount),
        cap_amount=_text(tier.cap_amount),
    )


def _per(value: Decimal) -> str:
    return "" if value == ONE else plain(value)


def _text(value: Decimal | None) -> str:
    return "" if value is None else plain(value)
