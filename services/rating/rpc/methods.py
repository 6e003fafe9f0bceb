"""Who may call which method."""

from __future__ import annotations

from libs.rpc import Audience

_PACKAGE = "steelyard.rating.v1"
_TENANT_OR_INTERNAL = Audience.TENANT | Audience.INTERNAL

METHODS = {
    f"{_PACKAGE}.RateCardService/CreateRateCard": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.RateCardService/GetRateCard": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.RateCardService/ListRateCards": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.RateCardService/ArchiveRateCard": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.RateCardService/UnarchiveRateCard": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ChargeService/GetCharges": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ChargeService/GetCurrentCharges": Audience.INTERNAL,
    f"{_PACKAGE}.ChargeService/PreviewCharge": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ChargeService/ExplainCharge": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ChargeService/ForecastCharges": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ChargeService/ConfirmCharges": Audience.INTERNAL,
    f"{_PACKAGE}.ChargeStreamService/StreamCharges": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.EstimateService/EstimateEvent": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.PriceOverrideService/CreatePriceOverride": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.PriceOverrideService/EndPriceOverride": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.PriceOverrideService/GetPriceOverride": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.PriceOverrideService/ListPriceOverrides": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ReratingService/Rerate": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ReratingService/ListReratedCharges": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.SimulationService/Simulate": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.SimulationService/SummarizeSimulation": _TENANT_OR_INTERNAL,
    f"{_PACKAGE}.ReconciliationService/Reconcile": _TENANT_OR_INTERNAL,
}
