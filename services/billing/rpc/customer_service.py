"""CustomerService."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.billing.domain.customer import DEFAULT_TIME_ZONE, Customer
from services.billing.rpc import fields
from services.billing.usecases.create_customer import CreateCustomer
from services.billing.usecases.get_customers import GetCustomer, ListCustomers
from services.billing.usecases.request import Request
from services.billing.wire.common import time_to_pb
from steelyard.billing.v1 import customer_service_pb2, customer_service_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


@dataclass(frozen=True, slots=True)
class CustomerUseCases:
    create_customer: CreateCustomer
    get_customer: GetCustomer
    list_customers: ListCustomers


class CustomerServicer(customer_service_pb2_grpc.CustomerServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, use_cases: CustomerUseCases) -> None:
        self._do = use_cases

    async def CreateCustomer(
        self, request: customer_service_pb2.CreateCustomerRequest, context: Context
    ) -> customer_service_pb2.CreateCustomerResponse:
        customer = Customer(
            customer_id=request.customer.customer_id,
            display_name=request.customer.display_name,
            time_zone=request.customer.time_zone or DEFAULT_TIME_ZONE,
            created_at=datetime.min.replace(tzinfo=UTC),
        )
        stored = await self._do.create_customer(
            request=Request.of("CreateCustomer", request.request_id, customer),
            tenant_id=current_tenant(),
            customer=customer,
        )
        return customer_service_pb2.CreateCustomerResponse(customer=_customer_to_pb(stored))

    async def GetCustomer(
        self, request: customer_service_pb2.GetCustomerRequest, context: Context
    ) -> customer_service_pb2.GetCustomerResponse:
        customer = await self._do.get_customer(
            tenant_id=current_tenant(), customer_id=fields.customer_id(request.customer_id)
        )
        return customer_service_pb2.GetCustomerResponse(customer=_customer_to_pb(customer))

    async def ListCustomers(
        self, request: customer_service_pb2.ListCustomersRequest, context: Context
    ) -> customer_service_pb2.ListCustomersResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        found = await self._do.list_customers(
            tenant_id=current_tenant(), after=cursor[0] if cursor else "", limit=size + 1
        )
        token = next_page_token(request, [found[size - 1].customer_id]) if len(found) > size else ""
        return customer_service_pb2.ListCustomersResponse(
            customers=map(_customer_to_pb, found[:size]), next_page_token=token
        )


def _customer_to_pb(customer: Customer) -> customer_service_pb2.Customer:
    return customer_service_pb2.Customer(
        customer_id=customer.customer_id,
        display_name=customer.display_name,
        time_zone=customer.time_zone,
        create_time=time_to_pb(customer.created_at),
    )
