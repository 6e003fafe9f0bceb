"""Builds the use cases behind the servicers and adds them to a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from libs.clock import Clock
from libs.rpc import GrpcServer
from services.billing.rpc.billing_period_service import BillingPeriodServicer
from services.billing.rpc.customer_service import CustomerServicer, CustomerUseCases
from services.billing.rpc.invoice_service import InvoiceServicer, InvoiceUseCases
from services.billing.rpc.reconciliation_service import ReconciliationServicer
from services.billing.rpc.subscription_service import SubscriptionServicer, SubscriptionUseCases
from services.billing.rpc.tenant_service import TenantServicer, TenantUseCases
from services.billing.usecases.advance_clock import AdvanceClock
from services.billing.usecases.cancel_subscription import CancelSubscription
from services.billing.usecases.change_rate_card import ChangeRateCard
from services.billing.usecases.create_api_key import CreateApiKey, NewSecret
from services.billing.usecases.create_customer import CreateCustomer
from services.billing.usecases.create_subscription import CreateSubscription
from services.billing.usecases.create_tenant import CreateTenant
from services.billing.usecases.get_customers import GetCustomer, ListCustomers
from services.billing.usecases.get_invoices import GetBillingProgress, GetInvoice, ListInvoices
from services.billing.usecases.get_subscriptions import GetSubscription, ListSubscriptions
from services.billing.usecases.get_tenants import GetTenant, ListTenants
from services.billing.usecases.list_api_keys import ListApiKeys
from services.billing.usecases.list_billing_periods import ListBillingPeriods
from services.billing.usecases.ports import Directory, Payments, Queues, Rating, UnitOfWork
from services.billing.usecases.preview_invoice import GetCurrentSpend, PreviewInvoice
from services.billing.usecases.reconcile import Reconcile
from services.billing.usecases.revoke_api_key import RevokeApiKey
from services.billing.usecases.void_invoice import VoidInvoice
from steelyard.billing.v1 import (
    billing_period_service_pb2_grpc,
    customer_service_pb2_grpc,
    invoice_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
    subscription_service_pb2_grpc,
    tenant_service_pb2_grpc,
)


@dataclass(frozen=True, slots=True)
class Ports:
    """What the use cases of requests stand on; `unit_of_work` is logged in as api."""

    unit_of_work: UnitOfWork
    queues: Queues
    directory: Directory
    rating: Rating
    payments: Payments
    clock: Clock
    make_secret: Callable[[], NewSecret]
    test_clocks: bool


def add_servicers(server: GrpcServer, ports: Ports) -> None:
    """Serve everything in the table of methods."""
    server.add(TenantServicer(_tenants(ports)), tenant_service_pb2_grpc.add_TenantServiceServicer_to_server)
    server.add(CustomerServicer(_customers(ports)), customer_service_pb2_grpc.add_CustomerServiceServicer_to_server)
    server.add(
        SubscriptionServicer(_subscriptions(ports)),
        subscription_service_pb2_grpc.add_SubscriptionServiceServicer_to_server,
    )
    server.add(
        BillingPeriodServicer(ListBillingPeriods(unit_of_work=ports.unit_of_work)),
        billing_period_service_pb2_grpc.add_BillingPeriodServiceServicer_to_server,
    )
    server.add(InvoiceServicer(_invoices(ports)), invoice_service_pb2_grpc.add_InvoiceServiceServicer_to_server)
    server.add(
        ReconciliationServicer(Reconcile(unit_of_work=ports.unit_of_work, rating=ports.rating)),
        reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server,
    )


def _tenants(ports: Ports) -> TenantUseCases:
    work, directory, clock = ports.unit_of_work, ports.directory, ports.clock
    return TenantUseCases(
        create_tenant=CreateTenant(unit_of_work=work, directory=directory, clock=clock, test_clocks=ports.test_clocks),
        get_tenant=GetTenant(unit_of_work=work),
        list_tenants=ListTenants(queues=ports.queues),
        create_api_key=CreateApiKey(unit_of_work=work, directory=directory, clock=clock, make_secret=ports.make_secret),
        list_api_keys=ListApiKeys(unit_of_work=work),
        revoke_api_key=RevokeApiKey(unit_of_work=work, directory=directory, clock=clock),
        advance_clock=AdvanceClock(unit_of_work=work, directory=directory, clock=clock, test_clocks=ports.test_clocks),
    )


def _customers(ports: Ports) -> CustomerUseCases:
    return CustomerUseCases(
        create_customer=CreateCustomer(unit_of_work=ports.unit_of_work, directory=ports.directory, clock=ports.clock),
        get_customer=GetCustomer(unit_of_work=ports.unit_of_work),
        list_customers=ListCustomers(unit_of_work=ports.unit_of_work),
    )


def _subscriptions(ports: Ports) -> SubscriptionUseCases:
    work, clock = ports.unit_of_work, ports.clock
    return SubscriptionUseCases(
        create_subscription=CreateSubscription(unit_of_work=work, rating=ports.rating, clock=clock),
        get_subscription=GetSubscription(unit_of_work=work, clock=clock),
        list_subscriptions=ListSubscriptions(unit_of_work=work, clock=clock),
        cancel_subscription=CancelSubscription(unit_of_work=work, clock=clock),
        change_rate_card=ChangeRateCard(unit_of_work=work, rating=ports.rating, clock=clock),
    )


def _invoices(ports: Ports) -> InvoiceUseCases:
    work, clock = ports.unit_of_work, ports.clock
    return InvoiceUseCases(
        get_invoice=GetInvoice(unit_of_work=work),
        list_invoices=ListInvoices(unit_of_work=work),
        preview_invoice=PreviewInvoice(unit_of_work=work, clock=clock),
        void_invoice=VoidInvoice(unit_of_work=work, payments=ports.payments, clock=clock),
        get_current_spend=GetCurrentSpend(unit_of_work=work, rating=ports.rating, clock=clock),
        get_billing_progress=GetBillingProgress(unit_of_work=work, clock=clock),
    )
