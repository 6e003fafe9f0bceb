"""Rate cards on the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import assert_never

from libs.errors import Violation
from libs.money import DecimalRejected, RoundingMode, parse_decimal, plain
from services.rating.domain.prices import ZERO, Flat, Graduated, Package, PerUnit, PriceModel, Tier, Volume
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.wire.charges import ROUNDING_MODES
from services.rating.wire.times import instant_from_pb, instant_to_pb
from steelyard.rating.v1 import rate_card_pb2 as pb

_MODES = {pb.ROUNDING_MODE_UNSPECIFIED: RoundingMode.HALF_EVEN} | {wire: mode for mode, wire in ROUNDING_MODES.items()}


@dataclass(slots=True)
class RateCardReader:
    """Reads a card from the wire and collects what cannot be read; a placeholder then stands in its place."""

    violations: list[Violation] = field(default_factory=list)

    def card(self, message: pb.RateCard) -> RateCard:
        """Return the card as version 0."""
        effective_at = None
        if message.HasField("effective_time"):
            try:
                effective_at = instant_from_pb(message.effective_time)
            except (ValueError, OverflowError):
                self._add("effective_time", "INVALID_TIME", "must be an instant in the years 1 to 9999")
        return RateCard(
            rate_card_id=message.rate_card_id,
            version=0,
            currency=message.currency,
            effective_at=effective_at,
            prices=tuple(self._price(price, f"prices[{index}]") for index, price in enumerate(message.prices)),
            display_name=message.display_name,
        )

    def number(self, text: str, path: str, *, default: Decimal | None = None) -> Decimal:
        """Return a decimal; an empty text is the default, if there is one."""
        if not text and default is not None:
            return default
        try:
            return parse_decimal(text)
        except DecimalRejected as error:
            self._add(path, error.reason, str(error))
            return Decimal("NaN")

    def _price(self, message: pb.Price, path: str) -> Price:
        mode = _MODES.get(message.rounding_mode)
        if mode is None:
            self._add(f"{path}.rounding_mode", "UNKNOWN_VALUE", "is not a rounding mode")
        return Price(
            price_id=message.price_id,
            model=self._model(message, path),
            meter_id=message.meter_id or None,
            included_quantity=self.number(message.included_quantity, f"{path}.included_quantity", default=ZERO),
            rounding_mode=mode or RoundingMode.HALF_EVEN,
            display_name=message.display_name,
        )

    def _model(self, message: pb.Price, path: str) -> PriceModel:
        read: dict[str, Callable[[], PriceModel]] = {
            "flat": lambda: Flat(self.number(message.flat.amount, f"{path}.flat.amount")),
            "per_unit": lambda: PerUnit(self.number(message.per_unit.unit_amount, f"{path}.per_unit.unit_amount")),
            "package": lambda: Package(
                self.number(message.package.package_size, f"{path}.package.package_size"),
                self.number(message.package.package_amount, f"{path}.package.package_amount"),
            ),
            "graduated": lambda: Graduated(self._tiers(message.graduated.tiers, f"{path}.graduated.tiers")),
            "volume": lambda: Volume(self._tiers(message.volume.tiers, f"{path}.volume.tiers")),
        }
        kind = message.WhichOneof("model")
        if kind is None:
            self._add(f"{path}.model", "REQUIRED", "must have one of the price models")
            return PerUnit(ZERO) if message.meter_id else Flat(ZERO)
        return read[kind]()

    def _tiers(self, tiers: Sequence[pb.Tier], path: str) -> tuple[Tier, ...]:
        return tuple(
            Tier(
                self.number(tier.up_to, f"{path}[{index}].up_to") if tier.up_to else None,
                self.number(tier.unit_amount, f"{path}[{index}].unit_amount"),
                self.number(tier.flat_amount, f"{path}[{index}].flat_amount", default=ZERO),
            )
            for index, tier in enumerate(tiers)
        )

    def _add(self, path: str, reason: str, description: str) -> None:
        self.violations.append(Violation(path, reason, description))


def rate_card_to_pb(stored: StoredRateCard) -> pb.RateCard:
    """Return a stored version for the wire."""
    card = stored.card
    message = pb.RateCard(
        rate_card_id=card.rate_card_id,
        version=card.version,
        display_name=card.display_name,
        currency=card.currency,
        prices=[_price_to_pb(price) for price in card.prices],
        create_time=instant_to_pb(stored.created_at),
    )
    if card.effective_at is not None:
        message.effective_time.CopyFrom(instant_to_pb(card.effective_at))
    return message


def _price_to_pb(price: Price) -> pb.Price:
    message = pb.Price(
        price_id=price.price_id,
        display_name=price.display_name,
        meter_id=price.meter_id or "",
        included_quantity=plain(price.included_quantity),
        rounding_mode=ROUNDING_MODES[price.rounding_mode],
    )
    match price.model:
        case Flat(amount):
            message.flat.CopyFrom(pb.FlatPrice(amount=plain(amount)))
        case PerUnit(unit_amount):
            message.per_unit.CopyFrom(pb.PerUnitPrice(unit_amount=plain(unit_amount)))
        case Package(size, amount):
            message.package.CopyFrom(pb.PackagePrice(package_size=plain(size), package_amount=plain(amount)))
        case Graduated(tiers):
            message.graduated.CopyFrom(pb.GraduatedPrice(tiers=[_tier_to_pb(tier) for tier in tiers]))
        case Volume(tiers):
            message.volume.CopyFrom(pb.VolumePrice(tiers=[_tier_to_pb(tier) for tier in tiers]))
        case _:
            assert_never(price.model)
    return message


def _tier_to_pb(tier: Tier) -> pb.Tier:
    return pb.Tier(
        up_to="" if tier.up_to is None else plain(tier.up_to),
        unit_amount=plain(tier.unit_amount),
        flat_amount=plain(tier.flat_amount),
    )
