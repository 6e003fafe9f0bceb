"""ChargeService: translates, no rules."""

from __future__ import annotations

from collections import defaultdict

from libs.clock import Clock
from libs.errors import InvalidInput
from libs.money import plain
from libs.rpc import current_tenant
from services.rating.domain.place_in_term import PlaceInTerm
from services.rating.domain.prices import ZERO
from services.rating.domain.usage import DimensionedQuantity, ExplainedUsage
from services.rating.domain.windowed_price import PricedWindow
from services.rating.rpc import require
from services.rating.rpc.context import Context
from services.rating.usecases.confirm_charges import ConfirmCharges, ConfirmedCharges
from services.rating.usecases.current_charges import CurrentCharges, GetCurrentCharges
from services.rating.usecases.forecast_charges import ForecastCharges
from services.rating.usecases.get_charges import GetCharges, PreviewCharge
from services.rating.usecases.known_charges import GetKnownCharges
from services.rating.wire.card_reading import Reading
from services.rating.wire.charges import charge_to_pb, previewed_charge_to_pb
from services.rating.wire.forecasts import forecast_to_pb
from services.rating.wire.times import instant_to_pb, period_to_pb
from steelyard.rating.v1 import charge_service_pb2 as pb
from steelyard.rating.v1 import charge_service_pb2_grpc as pb_grpc

_MAX_KEYS = 500


class ChargeServicer(pb_grpc.ChargeServiceServicer):
    """Charges of the calling tenant."""

    def __init__(
        self,
        *,
        get_charges: GetCharges,
        get_known_charges: GetKnownCharges,
        get_current_charges: GetCurrentCharges,
        preview_charge: PreviewCharge,
        forecast_charges: ForecastCharges,
        confirm_charges: ConfirmCharges,
        clock: Clock,
    ) -> None:
        self._get_charges = get_charges
        self._get_known_charges = get_known_charges
        self._get_current_charges = get_current_charges
        self._preview_charge = preview_charge
        self._forecast_charges = forecast_charges
        self._confirm_charges = confirm_charges
        self._clock = clock

    async def GetCharges(self, request: pb.GetChargesRequest, context: Context) -> pb.GetChargesResponse:
        tenant_id, named = current_tenant(), require.period_key(request.key)
        if request.HasField("known_at"):
            known_at = require.instant(request.known_at, "known_at")
            charges = await self._get_known_charges(tenant_id, *named, known_at)
        else:
            charges = await self._get_charges.of_period(tenant_id, *named)
        return pb.GetChargesResponse(charges=[charge_to_pb(charge) for charge in charges])

    async def GetCurrentCharges(
        self, request: pb.GetCurrentChargesRequest, context: Context
    ) -> pb.GetCurrentChargesResponse:
        customer_id = require.customer_id(request.customer_id, "customer_id")
        at = require.instant(request.at_time, "at_time")
        found = await self._get_current_charges(current_tenant(), customer_id, at)
        return pb.GetCurrentChargesResponse(periods=map(_current_to_pb, found))

    async def PreviewCharge(self, request: pb.PreviewChargeRequest, context: Context) -> pb.PreviewChargeResponse:
        rate_card_id = require.resource_id(request.rate_card_id, "rate_card_id")
        reading = Reading()
        quantities = {
            meter_id: reading.number(text, f"quantities[{meter_id}]") for meter_id, text in request.quantities.items()
        }
        for meter_id, count in request.event_counts.items():
            if count < 0:
                reading.add(f"event_counts[{meter_id}]", "NEGATIVE", "must not be negative")
        by_dimensions: defaultdict[str, list[DimensionedQuantity]] = defaultdict(list)
        for index, item in enumerate(request.by_dimensions):
            quantity = reading.number(item.quantity, f"by_dimensions[{index}].quantity")
            by_dimensions[item.meter_id].append(DimensionedQuantity(dict(item.dimensions), quantity))
        terms = {
            price_id: PlaceInTerm(place.number, reading.number(place.used, f"terms[{price_id}].used", default=ZERO))
            for price_id, place in request.terms.items()
        }
        if reading.violations:
            raise InvalidInput(reading.violations)
        card, charges = await self._preview_charge(
            current_tenant(),
            rate_card_id,
            request.rate_card_version,
            quantities,
            request.event_counts,
            by_dimensions,
            require.part_of_period(request.part) if request.HasField("part") else None,
            terms,
            request.currency,
        )
        return pb.PreviewChargeResponse(charges=[previewed_charge_to_pb(card, charge) for charge in charges])

    async def ExplainCharge(self, request: pb.ExplainChargeRequest, context: Context) -> pb.ExplainChargeResponse:
        price_id = require.resource_id(request.price_id, "price_id")
        after = require.instant(request.windows_after, "windows_after") if request.HasField("windows_after") else None
        explained = await self._get_charges.explain(
            current_tenant(), *require.period_key(request.key), price_id, windows_after=after
        )
        return pb.ExplainChargeResponse(
            charge=charge_to_pb(explained.charge),
            usage=[_explained_to_pb(day) for day in explained.usage],
            windows=[_window_to_pb(window) for window in explained.windows.windows],
            more_windows=explained.windows.more,
        )

    async def ForecastCharges(self, request: pb.ForecastChargesRequest, context: Context) -> pb.ForecastChargesResponse:
        as_of = require.instant(request.as_of, "as_of") if request.HasField("as_of") else self._clock()
        forecasted = await self._forecast_charges(current_tenant(), *require.period_key(request.key), as_of)
        return forecast_to_pb(forecasted)

    async def ConfirmCharges(self, request: pb.ConfirmChargesRequest, context: Context) -> pb.ConfirmChargesResponse:
        if not 1 <= len(request.keys) <= _MAX_KEYS:
            raise InvalidInput.of("keys", "OUT_OF_RANGE", f"must be 1 to {_MAX_KEYS} keys")
        instants = [require.period_key(key, f"keys[{index}]") for index, key in enumerate(request.keys)]
        confirmed = await self._confirm_charges(current_tenant(), instants)
        results = [
            _confirmed_to_pb(subscription_id, result)
            for (subscription_id, _), result in zip(instants, confirmed, strict=True)
        ]
        return pb.ConfirmChargesResponse(results=results)


def _current_to_pb(current: CurrentCharges) -> pb.CurrentCharges:
    key = current.period.key
    return pb.CurrentCharges(
        key=pb.BillingPeriodKey(subscription_id=key.subscription_id, period_start=instant_to_pb(key.period_start)),
        period=period_to_pb(current.period.period),
        charges=map(charge_to_pb, current.charges),
    )


def _explained_to_pb(day: ExplainedUsage) -> pb.ExplainedUsage:
    return pb.ExplainedUsage(
        period=period_to_pb(day.period),
        quantity="" if day.quantity is None else plain(day.quantity),
        event_count=day.event_count,
        window_count=day.window_count,
    )


def _window_to_pb(window: PricedWindow) -> pb.PricedWindow:
    return pb.PricedWindow(
        start_time=instant_to_pb(window.start), quantity=plain(window.quantity), amount=plain(window.amount)
    )


def _confirmed_to_pb(subscription_id: str, result: ConfirmedCharges) -> pb.ConfirmedCharges:
    key = pb.BillingPeriodKey(subscription_id=subscription_id, period_start=instant_to_pb(result.period_start))
    return pb.ConfirmedCharges(
        key=key,
        confirmed=not result.reason,
        reason=result.reason,
        charges=[charge_to_pb(charge) for charge in result.charges],
        period=period_to_pb(result.period.period) if result.period else None,
        whole_period=period_to_pb(result.period.whole) if result.period and result.period.whole else None,
    )
