"""Who may call what."""

from __future__ import annotations

from libs.rpc import Audience

_TENANT = Audience.TENANT | Audience.INTERNAL
_PACKAGE = "steelyard.billing.v1"

METHODS: dict[str, Audience] = {
    f"{_PACKAGE}.{method}": audience
    for method, audience in {
        "TenantService/CreateTenant": Audience.OPERATOR,
        "TenantService/GetTenant": Audience.OPERATOR | Audience.TENANT,
        "TenantService/ListTenants": Audience.OPERATOR,
        "TenantService/CreateApiKey": Audience.OPERATOR,
        "TenantService/ListApiKeys": Audience.OPERATOR,
        "TenantService/RevokeApiKey": Audience.OPERATOR,
        "TenantService/AdvanceClock": Audience.OPERATOR | Audience.TENANT,
        "CustomerService/CreateCustomer": _TENANT,
        "CustomerService/GetCustomer": _TENANT,
        "CustomerService/ListCustomers": _TENANT,
        "SubscriptionService/CreateSubscription": _TENANT,
        "SubscriptionService/GetSubscription": _TENANT,
        "SubscriptionService/ListSubscriptions": _TENANT,
        "SubscriptionService/CancelSubscription": _TENANT,
        "SubscriptionService/ChangeRateCard": _TENANT,
        "BillingPeriodService/ListBillingPeriods": Audience.INTERNAL,
        "InvoiceService/GetInvoice": _TENANT,
        "InvoiceService/ListInvoices": _TENANT,
        "InvoiceService/PreviewInvoice": _TENANT,
        "InvoiceService/VoidInvoice": _TENANT,
        "InvoiceService/GetCurrentSpend": _TENANT,
        "InvoiceService/GetBillingProgress": _TENANT,
        "ReconciliationService/Reconcile": _TENANT,
    }.items()
}
