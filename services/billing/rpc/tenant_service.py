"""TenantService."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.errors import InvalidInput, PermissionDenied
from libs.ids import check_tenant_id
from libs.rpc import Audience, current_principal, next_page_token, page_cursor, page_size
from services.billing.domain.tenant import (
    DEFAULT_EVENT_FUTURE_LIMIT_S,
    DEFAULT_EVENT_PAST_LIMIT_S,
    DEFAULT_INVOICE_GRACE_S,
    DEFAULT_INVOICE_PREFIX,
    ApiKey,
    Tenant,
)
from services.billing.usecases.advance_clock import AdvanceClock
from services.billing.usecases.create_api_key import CreateApiKey
from services.billing.usecases.create_tenant import CreateTenant, TenantView
from services.billing.usecases.get_tenants import GetTenant, ListTenants
from services.billing.usecases.list_api_keys import ListApiKeys
from services.billing.usecases.request import Request
from services.billing.usecases.revoke_api_key import RevokeApiKey
from services.billing.wire.common import time_from_pb, time_to_pb
from steelyard.billing.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


@dataclass(frozen=True, slots=True)
class TenantUseCases:
    create_tenant: CreateTenant
    get_tenant: GetTenant
    list_tenants: ListTenants
    create_api_key: CreateApiKey
    list_api_keys: ListApiKeys
    revoke_api_key: RevokeApiKey
    advance_clock: AdvanceClock


class TenantServicer(tenant_service_pb2_grpc.TenantServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, use_cases: TenantUseCases) -> None:
        self._do = use_cases

    async def CreateTenant(
        self, request: tenant_service_pb2.CreateTenantRequest, context: Context
    ) -> tenant_service_pb2.CreateTenantResponse:
        tenant = _tenant_from_pb(request.tenant)
        test_time = None
        if request.tenant.HasField("test_clock_time"):
            test_time = time_from_pb(request.tenant.test_clock_time, "tenant.test_clock_time")
        view = await self._do.create_tenant(
            request=Request.of("CreateTenant", request.request_id, tenant, test_time),
            tenant=tenant,
            test_time=test_time,
        )
        return tenant_service_pb2.CreateTenantResponse(tenant=_tenant_to_pb(view))

    async def GetTenant(
        self, request: tenant_service_pb2.GetTenantRequest, context: Context
    ) -> tenant_service_pb2.GetTenantResponse:
        view = await self._do.get_tenant(tenant_id=_own_or_named(request.tenant_id))
        return tenant_service_pb2.GetTenantResponse(tenant=_tenant_to_pb(view))

    async def ListTenants(
        self, request: tenant_service_pb2.ListTenantsRequest, context: Context
    ) -> tenant_service_pb2.ListTenantsResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        views = await self._do.list_tenants(after=cursor[0] if cursor else "", limit=size + 1)
        token = next_page_token(request, [views[size - 1].tenant.tenant_id]) if len(views) > size else ""
        return tenant_service_pb2.ListTenantsResponse(tenants=map(_tenant_to_pb, views[:size]), next_page_token=token)

    async def CreateApiKey(
        self, request: tenant_service_pb2.CreateApiKeyRequest, context: Context
    ) -> tenant_service_pb2.CreateApiKeyResponse:
        tenant_id = _own_or_named(request.tenant_id)
        new = await self._do.create_api_key(
            request=Request.of("CreateApiKey", request.request_id, tenant_id, request.display_name),
            tenant_id=tenant_id,
            display_name=request.display_name,
        )
        return tenant_service_pb2.CreateApiKeyResponse(api_key=_key_to_pb(new.key), secret=new.secret)

    async def ListApiKeys(
        self, request: tenant_service_pb2.ListApiKeysRequest, context: Context
    ) -> tenant_service_pb2.ListApiKeysResponse:
        keys = await self._do.list_api_keys(tenant_id=_own_or_named(request.tenant_id))
        return tenant_service_pb2.ListApiKeysResponse(api_keys=map(_key_to_pb, keys))

    async def RevokeApiKey(
        self, request: tenant_service_pb2.RevokeApiKeyRequest, context: Context
    ) -> tenant_service_pb2.RevokeApiKeyResponse:
        tenant_id = _own_or_named(request.tenant_id)
        key = await self._do.revoke_api_key(
            request=Request.of("RevokeApiKey", request.request_id, tenant_id, request.key_id),
            tenant_id=tenant_id,
            key_id=request.key_id,
        )
        return tenant_service_pb2.RevokeApiKeyResponse(api_key=_key_to_pb(key))

    async def AdvanceClock(
        self, request: tenant_service_pb2.AdvanceClockRequest, context: Context
    ) -> tenant_service_pb2.AdvanceClockResponse:
        tenant_id = _own_or_named(request.tenant_id)
        if not request.HasField("time"):
            raise InvalidInput.of("time", "REQUIRED", "must be set")
        to = time_from_pb(request.time, "time")
        now = await self._do.advance_clock(
            request=Request.of("AdvanceClock", request.request_id, tenant_id, to), tenant_id=tenant_id, to=to
        )
        return tenant_service_pb2.AdvanceClockResponse(time=time_to_pb(now))


def _own_or_named(tenant_id: str) -> str:
    """The tenant that a request is about: a tenant's key may only name its own.

    :raises PermissionDenied: TENANT_MISMATCH
    :raises InvalidInput: if nobody names a tenant, or what is named cannot be one
    """
    principal = current_principal()
    if principal.kind is Audience.TENANT and tenant_id not in ("", principal.tenant_id):
        raise PermissionDenied("the API key belongs to another tenant", reason="TENANT_MISMATCH")
    named = tenant_id or principal.tenant_id or ""
    if violation := check_tenant_id(named):
        raise InvalidInput([violation])
    return named


def _tenant_from_pb(message: tenant_pb2.Tenant) -> Tenant:
    """Unset limits get their defaults; the time of creation is the use case's."""

    def given(field: str, default: int) -> int:
        return int(getattr(message, field)) if message.HasField(field) else default  # type: ignore[arg-type]

    return Tenant(
        tenant_id=message.tenant_id,
        display_name=message.display_name,
        invoice_grace_s=given("invoice_grace_s", DEFAULT_INVOICE_GRACE_S),
        reject_unknown_customers=message.reject_unknown_customers,
        event_past_limit_s=given("event_past_limit_s", DEFAULT_EVENT_PAST_LIMIT_S),
        event_future_limit_s=given("event_future_limit_s", DEFAULT_EVENT_FUTURE_LIMIT_S),
        invoice_prefix=message.invoice_prefix or DEFAULT_INVOICE_PREFIX,
        created_at=datetime.min.replace(tzinfo=UTC),
    )


def _tenant_to_pb(view: TenantView) -> tenant_pb2.Tenant:
    tenant = view.tenant
    return tenant_pb2.Tenant(
        tenant_id=tenant.tenant_id,
        display_name=tenant.display_name,
        invoice_grace_s=tenant.invoice_grace_s,
        reject_unknown_customers=tenant.reject_unknown_customers,
        event_past_limit_s=tenant.event_past_limit_s,
        event_future_limit_s=tenant.event_future_limit_s,
        invoice_prefix=tenant.invoice_prefix,
        test_clock_time=time_to_pb(view.test_time),
        create_time=time_to_pb(tenant.created_at),
    )


def _key_to_pb(key: ApiKey) -> tenant_pb2.ApiKey:
    return tenant_pb2.ApiKey(
        key_id=key.key_id,
        display_name=key.display_name,
        create_time=time_to_pb(key.created_at),
        revoke_time=time_to_pb(key.revoked_at),
    )
