"""Price models as JSON; numbers are canonical decimal strings."""

from __future__ import annotations

from decimal import Decimal
from typing import NotRequired, TypedDict, assert_never

from libs.money import plain
from services.rating.domain.prices import (
    ONE,
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
    TimeBand,
    TimeOfDay,
    Volume,
)


class TierJson(TypedDict):
    up_to: str | None
    unit_amount: str
    flat_amount: str
    cap_amount: NotRequired[str]


class BandJson(TypedDict):
    label: str
    days: list[int]
    start_minute: int
    end_minute: int
    unit_amount: str


class ModelJson(TypedDict):
    """`kind` says which of the other fields are there. In tiers of percentages `unit_amount` is in percent."""

    kind: str
    amount: NotRequired[str]
    per: NotRequired[str]
    size: NotRequired[str]
    rounding: NotRequired[str]
    fixed_per_event: NotRequired[str]
    tiers: NotRequired[list[TierJson]]
    rows: NotRequired[list[tuple[dict[str, str], str]]]
    steps: NotRequired[list[tuple[str | None, str]]]
    bands: NotRequired[list[BandJson]]
    time_zone: NotRequired[str]


def model_to_json(model: AnyPriceModel) -> ModelJson:
    """Return a model as it is stored; what is not used of it is left out."""
    match model:
        case Flat(amount):
            return ModelJson(kind="flat", amount=plain(amount))
        case PerUnit(unit_amount, per):
            stored = ModelJson(kind="per_unit", amount=plain(unit_amount))
            if per != ONE:
                stored["per"] = plain(per)
            return stored
        case Package(size, amount, rounding):
            stored = ModelJson(kind="package", size=plain(size), amount=plain(amount))
            if rounding is not PackageRounding.UP:
                stored["rounding"] = rounding.value
            return stored
        case Graduated(tiers):
            return ModelJson(kind="graduated", tiers=[_tier_to_json(tier) for tier in tiers])
        case Volume(tiers):
            return ModelJson(kind="volume", tiers=[_tier_to_json(tier) for tier in tiers])
        case Stairstep(steps):
            return ModelJson(kind="stairstep", steps=[(_bound(step.up_to), plain(step.amount)) for step in steps])
        case GraduatedPercentage(percentage_tiers):
            shares = [Tier(tier.up_to, tier.rate_percent, tier.flat_amount) for tier in percentage_tiers]
            return ModelJson(kind="graduated_percentage", tiers=[_tier_to_json(share) for share in shares])
        case Percentage(rate_percent, fixed_per_event):
            return ModelJson(kind="percentage", amount=plain(rate_percent), fixed_per_event=plain(fixed_per_event))
        case Dynamic(multiplier):
            return ModelJson(kind="dynamic", amount=plain(multiplier))
        case Matrix(rows, default_unit_amount, per):
            return ModelJson(
                kind="matrix",
                amount=plain(default_unit_amount),
                per=plain(per),
                rows=[(dict(row.match), plain(row.unit_amount)) for row in rows],
            )
        case LinesBefore():
            return ModelJson(kind="lines_before")
        case TimeOfDay():
            return _time_of_day_to_json(model)
        case _:
            assert_never(model)


def model_from_json(stored: ModelJson) -> AnyPriceModel:
    """Return the model that `model_to_json` was given."""
    match stored["kind"]:
        case "flat":
            return Flat(Decimal(stored["amount"]))
        case "per_unit":
            return PerUnit(Decimal(stored["amount"]), Decimal(stored.get("per", "1")))
        case "package":
            rounding = PackageRounding(stored.get("rounding", PackageRounding.UP))
            return Package(Decimal(stored["size"]), Decimal(stored["amount"]), rounding)
        case "graduated":
            return Graduated(tuple(map(_tier_from_json, stored["tiers"])))
        case "volume":
            return Volume(tuple(map(_tier_from_json, stored["tiers"])))
        case "stairstep":
            return Stairstep(tuple(Step(_decimal(up_to), Decimal(amount)) for up_to, amount in stored["steps"]))
        case "graduated_percentage":
            shares = map(_tier_from_json, stored["tiers"])
            return GraduatedPercentage(
                tuple(PercentageTier(tier.up_to, tier.unit_amount, tier.flat_amount) for tier in shares)
            )
        case "percentage":
            return Percentage(Decimal(stored["amount"]), Decimal(stored["fixed_per_event"]))
        case "dynamic":
            return Dynamic(Decimal(stored["amount"]))
        case "matrix":
            rows = tuple(MatrixRow(tuple(sorted(match.items())), Decimal(amount)) for match, amount in stored["rows"])
            return Matrix(rows, Decimal(stored["amount"]), Decimal(stored["per"]))
        case "lines_before":
            return LinesBefore()
        case "time_of_day":
            bands = tuple(map(_band_from_json, stored["bands"]))
            return TimeOfDay(bands, Decimal(stored["amount"]), Decimal(stored["per"]), stored["time_zone"])
        case unknown:
            raise ValueError(f"no price model: {unknown}")


def _tier_to_json(tier: Tier) -> TierJson:
    stored = TierJson(
        up_to=_bound(tier.up_to), unit_amount=plain(tier.unit_amount), flat_amount=plain(tier.flat_amount)
    )
    if tier.cap_amount is not None:
        stored["cap_amount"] = plain(tier.cap_amount)
    return stored


def _tier_from_json(stored: TierJson) -> Tier:
    return Tier(
        _decimal(stored["up_to"]),
        Decimal(stored["unit_amount"]),
        Decimal(stored["flat_amount"]),
        _decimal(stored.get("cap_amount")),
    )


def _time_of_day_to_json(model: TimeOfDay) -> ModelJson:
    return ModelJson(
        kind="time_of_day",
        amount=plain(model.default_unit_amount),
        per=plain(model.per),
        time_zone=model.time_zone,
        bands=[_band_to_json(band) for band in model.bands],
    )


def _band_to_json(band: TimeBand) -> BandJson:
    return BandJson(
        label=band.label,
        days=list(band.days),
        start_minute=band.start_minute,
        end_minute=band.end_minute,
        unit_amount=plain(band.unit_amount),
    )


def _band_from_json(stored: BandJson) -> TimeBand:
    return TimeBand(
        stored["label"],
        stored["start_minute"],
        stored["end_minute"],
        Decimal(stored["unit_amount"]),
        tuple(stored["days"]),
    )


def _bound(up_to: Decimal | None) -> str | None:
    return None if up_to is None else plain(up_to)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
