"""How a quantity is priced: the parameters of the price models.

All amounts are in major units of the rate card's currency and exact. The types hold whatever they are given;
`validation` says what is wrong with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)
ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Flat:
    """`amount` once per billing period, whatever the usage."""

    amount: Decimal


@dataclass(frozen=True, slots=True)
class PerUnit:
    """quantity x `unit_amount` / `per`: the price of a thousand, or of a GiB, is often the one that is known."""

    unit_amount: Decimal
    per: Decimal = ONE


class PackageRounding(StrEnum):
    """What is due for a package that is not full."""

    UP = "up"
    """All of it."""
    DOWN = "down"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Package:
    """`amount` for each package of `size` units."""

    size: Decimal
    amount: Decimal
    rounding: PackageRounding = PackageRounding.UP


@dataclass(frozen=True, slots=True)
class Tier:
    """The units above the previous tier's bound up to and including `up_to` (None: without bound).

    `flat_amount` is due as soon as anything lies in the tier. `cap_amount`: the tier costs no more, its flat amount
    included.
    """

    up_to: Decimal | None
    unit_amount: Decimal
    flat_amount: Decimal = ZERO
    cap_amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each tier prices the units inside it."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """The tier that contains the whole quantity prices all of it."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The quantities above the previous step's bound up to and including `up_to` (None: without bound)."""

    up_to: Decimal | None
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Stairstep:
    """The amount of the step that contains the whole quantity, whatever lies below it."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class PercentageTier:
    """A tier of an amount of money; as `Tier`, with a rate in percent."""

    up_to: Decimal | None
    rate_percent: Decimal
    flat_amount: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """The quantity is an amount of money; each tier takes its percentage of the part inside it."""

    tiers: tuple[PercentageTier, ...]


@dataclass(frozen=True, slots=True)
class Percentage:
    """The quantity is an amount of money: `rate_percent` of it, and `fixed_per_event` for each event."""

    rate_percent: Decimal
    fixed_per_event: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The events say what they cost, and the quantity is the sum: quantity x `multiplier`."""

    multiplier: Decimal = ONE


PriceModel = Flat | PerUnit | Package | Graduated | Volume | Stairstep | GraduatedPercentage | Percentage | Dynamic


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A price for usage whose dimensions have these values; `match` is ordered by name."""

    match: tuple[tuple[str, str], ...]
    unit_amount: Decimal


@dataclass(frozen=True, slots=True)
class Matrix:
    """Usage is priced by its dimensions: the row that names most of them, of several the first, else the default.

    Unit amounts are for `per` units.
    """

    rows: tuple[MatrixRow, ...]
    default_unit_amount: Decimal
    per: Decimal = ONE


@dataclass(frozen=True, slots=True)
class LinesBefore:
    """No usage of its own: its terms act on the sum of the lines before it, and what they add or take off is its
    amount. So a card agrees on a minimum, a commitment or a discount for several prices together."""


@dataclass(frozen=True, slots=True)
class TimeBand:
    """A price for usage from a minute of the local day up to, not including, another one, on some days.

    It may go over midnight, and then still belongs to the day on which it began; with both alike it is the whole day.
    `days` are those on which it begins, 0 is Monday; none means all. Minutes are multiples of 15.
    """

    label: str
    start_minute: int
    end_minute: int
    unit_amount: Decimal
    days: tuple[int, ...] = ()

    def holds(self, day: int, minute: int) -> bool:
        """Whether it is the price of a minute of a day."""
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute and self._begins_on(day)
        if minute >= self.start_minute:
            return self._begins_on(day)
        return minute < self.end_minute and self._begins_on((day - 1) % 7)

    def _begins_on(self, day: int) -> bool:
        return not self.days or day in self.days


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """Usage is priced by the local time at which it happened: by the first band that holds it, else by the default.

    Unit amounts are for `per` units. `time_zone` is an IANA zone, empty for that of the billing period.
    """

    bands: tuple[TimeBand, ...]
    default_unit_amount: Decimal
    per: Decimal = ONE
    time_zone: str = ""


AnyPriceModel = PriceModel | Matrix | LinesBefore | TimeOfDay
"""Also those that need more than a quantity."""


class ZeroQuantityFlat(StrEnum):
    """What a tiered price does with its first tier's flat amount (or first step) when nothing was used."""

    CHARGE_FIRST_TIER = "charge_first_tier"
    NO_CHARGE = "no_charge"


class NegativeQuantity(StrEnum):
    """What a price does with a quantity below zero, which corrections can leave behind."""

    CLAMP_ZERO = "clamp_zero"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class PricingOptions:
    """Conventions on which billing systems differ; the defaults are this system's."""

    zero_quantity_flat: ZeroQuantityFlat = ZeroQuantityFlat.CHARGE_FIRST_TIER
    negative_quantity: NegativeQuantity = NegativeQuantity.CLAMP_ZERO


DEFAULT_OPTIONS = PricingOptions()


class WindowSize(StrEnum):
    """What a price of a window is a price of, by the clock of the billing period's zone."""

    HOUR = "hour"
    DAY = "day"


class EmptyWindows(StrEnum):
    """What a price of a window does with windows in which nothing was used."""

    SKIP = "skip"
    """Nothing."""
    PRICE = "price"
    """It prices a quantity of zero, so that what is promised for each window is due for all of them."""


@dataclass(frozen=True, slots=True)
class WindowPricing:
    """The price, with all of its terms, is that of one window; windows of a billing period are added up."""

    size: WindowSize
    empty: EmptyWindows = EmptyWindows.SKIP
