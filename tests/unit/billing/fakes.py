"""Stand-ins for what billing talks to, and values for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from libs.errors import NotFound, ResourceExhausted, Unavailable
from libs.money import RoundingMode
from libs.periods import Period
from services.billing.domain.charge import Charge, ChargePart, PeriodKey
from services.billing.domain.invoice import PaymentNotCancelable
from services.billing.domain.rate_card_facts import RateCardFacts
from services.billing.usecases.ports import Confirmed, LiveCharges

TRACE_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def a_charge(
    key: PeriodKey,
    *,
    price_id: str = "calls",
    amount: str = "12.345",
    version: int = 1,
    position: int = 0,
    currency: str = "EUR",
    quantity: str = "1234.5",
    rounding_mode: RoundingMode = RoundingMode.HALF_EVEN,
    trace_parent: str = "",
) -> Charge:
    part = ChargePart("per_unit", "", "", quantity, "0.01", "0", amount)
    return Charge(
        key=key,
        customer_id="cust-01",
        price_id=price_id,
        display_name=price_id.title(),
        meter_id="api_calls",
        position=position,
        currency=currency,
        quantity=Decimal(quantity),
        amount=Decimal(amount),
        rounding_mode=rounding_mode,
        rate_card_id="standard",
        rate_card_version=1,
        engine_version="1",
        parts=(part,),
        version=version,
        trace_parent=trace_parent,
    )


class MovingClock:
    """Real time as a test decides it."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


class FakeRating:
    """Rating with one charge of 12.345 per period unless told otherwise; `periods`, `wholes`: what these are for."""

    def __init__(self) -> None:
        self.currencies = {"standard": "EUR"}
        self.archived: set[str] = set()
        self.further_currencies: dict[str, tuple[str, ...]] = {}
        self.by_period: dict[PeriodKey, tuple[Charge, ...]] = {}
        self.refusals: dict[PeriodKey, str] = {}
        self.periods: dict[PeriodKey, Period] = {}
        self.wholes: dict[PeriodKey, Period] = {}
        self.asked: list[list[PeriodKey]] = []
        self.live: list[LiveCharges] = []
        self.is_away = False
        self.answers_max = 500

    def charges_of(self, key: PeriodKey) -> tuple[Charge, ...]:
        return self.by_period.get(key, (a_charge(key),))

    async def rate_card(self, tenant_id: str, rate_card_id: str) -> RateCardFacts:
        if self.is_away:
            raise Unavailable("rating is away")
        if rate_card_id not in self.currencies:
            raise NotFound(f"no rate card {rate_card_id}", reason="RATE_CARD_NOT_FOUND")
        return RateCardFacts(
            self.currencies[rate_card_id], rate_card_id in self.archived, self.further_currencies.get(rate_card_id, ())
        )

    async def confirm_charges(self, tenant_id: str, keys: Sequence[PeriodKey]) -> list[Confirmed]:
        self.asked.append(list(keys))
        if self.is_away:
            raise Unavailable("rating is away")
        if len(keys) > self.answers_max:
            raise ResourceExhausted("the message is too large")
        return [
            Confirmed(key, (), self.refusals[key])
            if key in self.refusals
            else Confirmed(key, self.charges_of(key), period=self.periods.get(key), whole=self.wholes.get(key))
            for key in keys
        ]

    async def charges(self, tenant_id: str, key: PeriodKey) -> list[Charge] | None:
        return list(self.by_period[key]) if key in self.by_period else None

    async def live_charges(self, tenant_id: str, customer_id: str, at: datetime) -> list[LiveCharges]:
        if self.is_away:
            raise Unavailable("rating is away")
        return self.live

    def change(self, charge: Charge, **changes: object) -> None:
        self.by_period[charge.key] = (charge._replace(**changes),)  # type: ignore[arg-type]


class FakePayments:
    """Payments that cancels whatever it is asked to, unless it has captured."""

    def __init__(self) -> None:
        self.canceled: list[str] = []
        self.captured_state = ""
        self.is_away = False

    async def cancel_payment(self, tenant_id: str, request_id: str, invoice_id: str) -> None:
        if self.is_away:
            raise Unavailable("payments is away")
        if self.captured_state:
            raise PaymentNotCancelable("money moved", state=self.captured_state)
        self.canceled.append(invoice_id)


class FakeDirectory:
    """A directory that everybody reads at once, unless `missing` have not."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.missing: list[str] = []

    async def publish(self, tenant_id: str) -> None:
        self.published.append(tenant_id)

    async def unconfirmed(self) -> list[str]:
        return self.missing
