"""Typed stubs of every service, made on first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import grpc

from steelyard.billing.v1 import (
    customer_service_pb2_grpc,
    invoice_service_pb2_grpc,
    subscription_service_pb2_grpc,
    tenant_service_pb2_grpc,
)
from steelyard.billing.v1 import reconciliation_service_pb2_grpc as billing_reconciliation
from steelyard.ingest.v1 import (
    correction_service_pb2_grpc,
    fate_service_pb2_grpc,
    finding_service_pb2_grpc,
    hold_service_pb2_grpc,
    ingest_service_pb2_grpc,
    log_service_pb2_grpc,
    measuring_service_pb2_grpc,
    meter_service_pb2_grpc,
    replay_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from steelyard.ingest.v1 import reconciliation_service_pb2_grpc as ingest_reconciliation
from steelyard.payments.v1 import ledger_service_pb2_grpc, payment_service_pb2_grpc
from steelyard.payments.v1 import reconciliation_service_pb2_grpc as payments_reconciliation
from steelyard.rating.v1 import (
    charge_service_pb2_grpc,
    charge_stream_service_pb2_grpc,
    estimate_service_pb2_grpc,
    price_override_service_pb2_grpc,
    rate_card_service_pb2_grpc,
    rerating_service_pb2_grpc,
    simulation_service_pb2_grpc,
)
from steelyard.rating.v1 import reconciliation_service_pb2_grpc as rating_reconciliation


class Services:
    """The generated stubs. Calls carry credentials, deadline and trace context, and fail with SteelyardError."""

    def __init__(self, channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._channel = channel

    @cached_property
    def ingest(self) -> ingest_service_pb2_grpc.IngestServiceAsyncStub:
        return ingest_service_pb2_grpc.IngestServiceStub(self._channel("ingest"))

    @cached_property
    def meters(self) -> meter_service_pb2_grpc.MeterServiceAsyncStub:
        return meter_service_pb2_grpc.MeterServiceStub(self._channel("query"))

    @cached_property
    def usage(self) -> usage_service_pb2_grpc.UsageServiceAsyncStub:
        return usage_service_pb2_grpc.UsageServiceStub(self._channel("query"))

    @cached_property
    def fates(self) -> fate_service_pb2_grpc.FateServiceAsyncStub:
        return fate_service_pb2_grpc.FateServiceStub(self._channel("query"))

    @cached_property
    def findings(self) -> finding_service_pb2_grpc.FindingServiceAsyncStub:
        return finding_service_pb2_grpc.FindingServiceStub(self._channel("query"))

    @cached_property
    def holds(self) -> hold_service_pb2_grpc.HoldServiceAsyncStub:
        return hold_service_pb2_grpc.HoldServiceStub(self._channel("query"))

    @cached_property
    def corrections(self) -> correction_service_pb2_grpc.CorrectionServiceAsyncStub:
        return correction_service_pb2_grpc.CorrectionServiceStub(self._channel("query"))

    @cached_property
    def replays(self) -> replay_service_pb2_grpc.ReplayServiceAsyncStub:
        return replay_service_pb2_grpc.ReplayServiceStub(self._channel("query"))

    @cached_property
    def log(self) -> log_service_pb2_grpc.LogServiceAsyncStub:
        return log_service_pb2_grpc.LogServiceStub(self._channel("query"))

    @cached_property
    def measuring(self) -> measuring_service_pb2_grpc.MeasuringServiceAsyncStub:
        return measuring_service_pb2_grpc.MeasuringServiceStub(self._channel("query"))

    @cached_property
    def rate_cards(self) -> rate_card_service_pb2_grpc.RateCardServiceAsyncStub:
        return rate_card_service_pb2_grpc.RateCardServiceStub(self._channel("rating"))

    @cached_property
    def charges(self) -> charge_service_pb2_grpc.ChargeServiceAsyncStub:
        return charge_service_pb2_grpc.ChargeServiceStub(self._channel("rating"))

    @cached_property
    def charge_streams(self) -> charge_stream_service_pb2_grpc.ChargeStreamServiceAsyncStub:
        return charge_stream_service_pb2_grpc.ChargeStreamServiceStub(self._channel("rating"))

    @cached_property
    def estimates(self) -> estimate_service_pb2_grpc.EstimateServiceAsyncStub:
        return estimate_service_pb2_grpc.EstimateServiceStub(self._channel("rating"))

    @cached_property
    def price_overrides(self) -> price_override_service_pb2_grpc.PriceOverrideServiceAsyncStub:
        return price_override_service_pb2_grpc.PriceOverrideServiceStub(self._channel("rating"))

    @cached_property
    def reratings(self) -> rerating_service_pb2_grpc.ReratingServiceAsyncStub:
        return rerating_service_pb2_grpc.ReratingServiceStub(self._channel("rating"))

    @cached_property
    def simulations(self) -> simulation_service_pb2_grpc.SimulationServiceAsyncStub:
        return simulation_service_pb2_grpc.SimulationServiceStub(self._channel("rating"))

    @cached_property
    def tenants(self) -> tenant_service_pb2_grpc.TenantServiceAsyncStub:
        return tenant_service_pb2_grpc.TenantServiceStub(self._channel("billing"))

    @cached_property
    def customers(self) -> customer_service_pb2_grpc.CustomerServiceAsyncStub:
        return customer_service_pb2_grpc.CustomerServiceStub(self._channel("billing"))

    @cached_property
    def subscriptions(self) -> subscription_service_pb2_grpc.SubscriptionServiceAsyncStub:
        return subscription_service_pb2_grpc.SubscriptionServiceStub(self._channel("billing"))

    @cached_property
    def invoices(self) -> invoice_service_pb2_grpc.InvoiceServiceAsyncStub:
        return invoice_service_pb2_grpc.InvoiceServiceStub(self._channel("billing"))

    @cached_property
    def payments(self) -> payment_service_pb2_grpc.PaymentServiceAsyncStub:
        return payment_service_pb2_grpc.PaymentServiceStub(self._channel("payments"))

    @cached_property
    def ledger(self) -> ledger_service_pb2_grpc.LedgerServiceAsyncStub:
        return ledger_service_pb2_grpc.LedgerServiceStub(self._channel("payments"))

    @cached_property
    def ingest_reconciliation(self) -> ingest_reconciliation.ReconciliationServiceAsyncStub:
        return ingest_reconciliation.ReconciliationServiceStub(self._channel("query"))

    @cached_property
    def rating_reconciliation(self) -> rating_reconciliation.ReconciliationServiceAsyncStub:
        return rating_reconciliation.ReconciliationServiceStub(self._channel("rating"))

    @cached_property
    def billing_reconciliation(self) -> billing_reconciliation.ReconciliationServiceAsyncStub:
        return billing_reconciliation.ReconciliationServiceStub(self._channel("billing"))

    @cached_property
    def payments_reconciliation(self) -> payments_reconciliation.ReconciliationServiceAsyncStub:
        return payments_reconciliation.ReconciliationServiceStub(self._channel("payments"))
