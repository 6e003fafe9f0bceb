"""Payments as it is run: processes over PostgreSQL and NATS, called over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import grpc
import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from libs.database import Database
from libs.embedded.machine import free_port
from libs.embedded.nats_server import EmbeddedNats
from libs.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from libs.messaging import DirectoryPublisher, JetStreamPublisher, ParkedMessages, directory_subject
from libs.rpc import as_tenant, channel, hash_api_key, internal_channel, new_api_key, typed_errors
from services.payments.store.tables import parked
from steelyard.billing.v1 import directory_pb2, events_pb2, invoice_pb2
from steelyard.payments.v1 import events_pb2 as payment_events_pb2
from steelyard.payments.v1 import (
    ledger_service_pb2,
    payment_pb2,
    payment_service_pb2,
    payment_service_pb2_grpc,
    reconciliation_service_pb2,
)
from tests.component.payments.processes import (
    INTERNAL_KEY,
    TENANT,
    TEST_NOW,
    TRACE,
    Api,
    Surroundings,
    end_of,
    eventually,
    running,
    surroundings,
    timestamp,
)
from tests.support.servers import DatabaseFactory

SUCCEEDED, CANCELED = payment_pb2.PAYMENT_STATE_SUCCEEDED, payment_pb2.PAYMENT_STATE_CANCELED
REQUIRES_METHOD = payment_pb2.PAYMENT_STATE_REQUIRES_METHOD
SCHEDULED = payment_pb2.PAYMENT_STATE_SCHEDULED


@pytest.fixture(scope="module")
async def around(make_database: DatabaseFactory, server_root: Path) -> AsyncIterator[Surroundings]:
    with EmbeddedNats(Path(tempfile.mkdtemp(prefix="nats-", dir=server_root)), durable=False) as nats:
        async with surroundings(await make_database("payments"), nats.url) as made:
            await made.set_clock(TEST_NOW)
            yield made


@pytest.fixture(scope="module")
async def api(around: Surroundings) -> AsyncIterator[Api]:
    """One process of role "all" for all tests, and a channel to it."""
    async with running(around, "all"), internal_channel(around.grpc_target, INTERNAL_KEY) as opened:
        await asyncio.wait_for(opened.channel_ready(), 30)
        yield Api(opened)


class TestCollecting:
    async def test_goes_from_the_invoice_to_the_fact_that_it_was_paid_in_one_trace(
        self, around: Surroundings, api: Api
    ) -> None:
        await api.set_method("cust-01", "tok_decline_then_ok")
        await around.issue("inv_1", "cust-01")
        declined = await eventually(lambda: self.declined_once(api))
        await around.set_clock(TEST_NOW + timedelta(days=1))
        paid = await api.until("inv_1", SUCCEEDED)
        assert (declined.payment_id, paid.invoice_number) == (paid.payment_id, "INV-inv_1")
        assert [attempt.number for attempt in paid.attempts] == [1, 2]

        message = await self.next_message(around, "payments.payment.succeeded.v1")

        fact = payment_events_pb2.PaymentSucceeded.FromString(message.data)
        assert (fact.payment_id, fact.invoice_id, fact.amount.minor_units) == (paid.payment_id, "inv_1", 1999)
        assert fact.capture_time == timestamp(TEST_NOW + timedelta(days=1))
        headers = message.headers or {}
        assert headers["Nats-Msg-Id"] == f"acme:payment-succeeded:{paid.payment_id}"
        assert headers["traceparent"].split("-")[1] == TRACE

    @staticmethod
    async def declined_once(api: Api) -> payment_pb2.Payment | None:
        """Before that its next try would come a day after the clock was moved."""
        payment = await api.until("inv_1", SCHEDULED)
        return payment if payment.attempts else None

    @staticmethod
    async def next_message(around: Surroundings, subject: str) -> Msg:
        consumer = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        subscription = await around.nats.jetstream().subscribe(subject, stream="PAYMENTS", config=consumer)
        try:
            return await subscription.next_msg(timeout=20)
        finally:
            await subscription.unsubscribe()

    async def test_survives_a_fact_that_cannot_be_read(self, around: Surroundings, api: Api) -> None:
        wrong = events_pb2.InvoiceIssued(tenant_id="beta", invoice_id="inv_x", customer_id="c").SerializeToString()
        await around.publish("billing.invoice.issued.v1", wrong, "acme:invoice-issued:inv_x")
        await around.publish("billing.invoice.voided.v1", b"\xff", "acme:invoice-voided:inv_y")
        await around.issue("inv_2", "cust-without-method")
        await api.until("inv_2", REQUIRES_METHOD)

        worker = Database(around.database.worker_url, "worker", application_name="test")
        messages = ParkedMessages(worker, parked, consumer="any", clock=lambda: TEST_NOW)
        await eventually(lambda: self.parked_twice(messages))
        await worker.dispose()

    @staticmethod
    async def parked_twice(messages: ParkedMessages) -> bool | None:
        return await messages.unresolved_by_tenant() == {"acme": 2} or None


class TestCalls:
    async def test_a_card_number_is_refused_by_name(self, api: Api) -> None:
        with pytest.raises(InvalidInput) as refused:
            await api.set_method("cust-01", "4111 1111 1111 1111")
        [violation] = refused.value.violations
        assert (violation.field, violation.reason) == ("gateway_token", "CARD_NUMBER_REFUSED")

    async def test_a_request_id_stands_for_one_request(self, api: Api) -> None:
        request_id = str(uuid.uuid4())
        first = await api.set_method("cust-08", "tok_ok", request_id)
        assert await api.set_method("cust-08", "tok_ok", request_id) == first
        with pytest.raises(AlreadyExists) as refused:
            await api.set_method("cust-08", "tok_decline_hard", request_id)
        assert refused.value.reason == "REQUEST_ID_REUSED"

    async def test_a_payment_is_found_by_id_or_invoice_or_not_at_all(self, around: Surroundings, api: Api) -> None:
        await around.issue("inv_3", "cust-without-method")
        payment = await api.until("inv_3", REQUIRES_METHOD)
        assert await api.payment(payment_id=payment.payment_id) == payment
        for missing in ({"invoice_id": "inv_of_nobody"}, {"payment_id": "pay_of_nobody"}):
            with pytest.raises(NotFound) as refused:
                await api.payment(**missing)
            assert refused.value.reason == "PAYMENT_NOT_FOUND"
        for wrong in ({}, {"invoice_id": "nul\0"}, {"payment_id": "x" * 200}):
            with pytest.raises(InvalidInput):
                await api.payment(**wrong)

    async def test_a_payment_is_cancelled_or_not(self, around: Surroundings, api: Api) -> None:
        assert not (await api.cancel("inv_to_come")).HasField("payment")
        await around.issue("inv_to_come", "cust-without-method")
        await api.until("inv_to_come", CANCELED)
        assert (await api.cancel("inv_to_come")).payment.state == CANCELED
        await api.set_method("cust-07", "tok_ok")
        await around.issue("inv_captured", "cust-07")
        await api.until("inv_captured", SUCCEEDED)
        with pytest.raises(FailedPrecondition) as refused:
            await api.cancel("inv_captured")
        assert (refused.value.reason, refused.value.metadata["state"]) == ("PAYMENT_NOT_CANCELABLE", "succeeded")

    async def test_lists_come_in_pages(self, around: Surroundings, api: Api) -> None:
        for number in range(5):
            await around.issue(f"inv_page_{number}", "cust-pages", 1 + number)
        for number in range(5):
            await api.until(f"inv_page_{number}", REQUIRES_METHOD)
        request = payment_service_pb2.ListPaymentsRequest(customer_id="cust-pages", state=REQUIRES_METHOD, page_size=2)
        pages = [await api.page(request)]
        while pages[-1].next_page_token:
            request.page_token = pages[-1].next_page_token
            pages.append(await api.page(request))
        assert [len(page.payments) for page in pages] == [2, 2, 1]
        ids = [payment.payment_id for page in pages for payment in page.payments]
        assert ids == sorted(set(ids), reverse=True)
        for wrong in ({"page_size": -1}, {"page_token": "!"}, {"state": 99}):
            with pytest.raises(InvalidInput):
                await api.page(payment_service_pb2.ListPaymentsRequest(**wrong))

    async def test_the_ledger_comes_in_pages_and_balances(self, around: Surroundings, api: Api) -> None:
        await api.set_method("cust-06", "tok_ok")
        await around.issue("inv_ledger", "cust-06", 70)
        await api.until("inv_ledger", SUCCEEDED)
        request = ledger_service_pb2.ListLedgerTransactionsRequest(invoice_id="inv_ledger", page_size=1)
        newest = await api.ledger.ListLedgerTransactions(request, metadata=as_tenant(TENANT))
        request.page_token = newest.next_page_token
        oldest = await api.ledger.ListLedgerTransactions(request, metadata=as_tenant(TENANT))
        assert oldest.next_page_token == ""
        [captured], [issued] = newest.transactions, oldest.transactions
        assert (captured.kind, issued.kind) == ("payment_captured", "invoice_issued")
        sides = [(entry.account, entry.customer_id, entry.amount.minor_units) for entry in captured.entries]
        assert sides == [("gateway", "", 70), ("receivable", "cust-06", -70)]
        balances = await api.ledger.GetLedgerBalances(
            ledger_service_pb2.GetLedgerBalancesRequest(), metadata=as_tenant(TENANT)
        )
        assert balances.balanced
        assert sum(item.balance.minor_units for item in balances.balances) == 0

    async def test_a_tenant_may_not_cancel_and_sees_no_other(self, around: Surroundings, api: Api) -> None:
        key = new_api_key(secrets.token_bytes)
        entry = directory_pb2.ApiKeyEntry(
            key_id=key.key_id, tenant_id="other", secret_hash=hash_api_key(key.text), version=1
        )
        directory = DirectoryPublisher(JetStreamPublisher(around.nats.jetstream()))
        await directory.put(directory_subject("key", key.key_id), entry.SerializeToString(), f"other:key:{key.key_id}")
        async with channel(around.grpc_target, key=key.text) as opened:
            payments = payment_service_pb2_grpc.PaymentServiceStub(opened)

            async def nothing_to_see() -> bool | None:
                with contextlib.suppress(Unauthenticated), typed_errors():
                    found = await payments.ListPayments(payment_service_pb2.ListPaymentsRequest())
                    return not found.payments
                return None

            assert await eventually(nothing_to_see)
            with pytest.raises(PermissionDenied), typed_errors():
                await payments.CancelPayment(payment_service_pb2.CancelPaymentRequest(invoice_id="inv_1"))


class TestReconciling:
    async def test_names_what_differs_and_says_when_billing_is_away(self, around: Surroundings, api: Api) -> None:
        await api.set_method("cust-05", "tok_ok")
        await around.issue("inv_reconciled", "cust-05", 50)
        await api.until("inv_reconciled", SUCCEEDED)
        around.billing.invoices["inv_reconciled"].state = invoice_pb2.INVOICE_STATE_PAID

        request = reconciliation_service_pb2.ReconcileRequest()
        response = await api.reconciliation.Reconcile(request, metadata=as_tenant(TENANT))

        checks = {check.name: check for check in response.checks}
        assert checks["captured attempts = gateway's record"].ok
        unpaid = {difference.subject for difference in checks["paid invoices = captured payments"].differences}
        assert "inv_reconciled" not in unpaid
        request.period.start.CopyFrom(timestamp(TEST_NOW))
        with pytest.raises(InvalidInput), typed_errors():
            await api.reconciliation.Reconcile(request, metadata=as_tenant(TENANT))


class TestProcesses:
    async def test_two_roles_work_together_and_stop_in_good_order(
        self, make_database: DatabaseFactory, own_nats: EmbeddedNats
    ) -> None:
        health = f"127.0.0.1:{free_port()}"
        async with (
            surroundings(await make_database("payments"), own_nats.url) as around,
            running(around, "api"),
            running(around, "work", GRPC_LISTEN=health),
            internal_channel(around.grpc_target, INTERNAL_KEY) as opened,
            internal_channel(health, INTERNAL_KEY) as worker,
        ):
            await around.set_clock(TEST_NOW)
            await asyncio.wait_for(opened.channel_ready(), 30)
            api = Api(opened)
            await api.set_method("cust-02", "tok_ok")
            await around.issue("inv_roles", "cust-02")
            await api.until("inv_roles", SUCCEEDED)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await Api(worker).payment("inv_roles")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def test_one_stops_while_nats_is_away(self, make_database: DatabaseFactory, own_nats: EmbeddedNats) -> None:
        async with (
            surroundings(await make_database("payments"), own_nats.url) as around,
            running(around, "all"),
            internal_channel(around.grpc_target, INTERNAL_KEY) as opened,
        ):
            await asyncio.wait_for(opened.channel_ready(), 30)
            own_nats.kill()

    async def test_migrates_an_empty_database_and_again(self, make_database: DatabaseFactory) -> None:
        database = await make_database.empty("payments")
        status, said = await end_of({"PAYMENTS_DATABASE_URL": database.api_url}, "migrate")
        assert (status, said) == (os.EX_CONFIG, "payments: PAYMENTS_ADMIN_DATABASE_URL is missing\n")
        assert [await end_of(database.environment(), "migrate") for _ in range(2)] == [(0, ""), (0, "")]
        connection = await asyncpg.connect(database.api_url)
        assert await connection.fetchval("SELECT count(*) FROM payments") == 0
        await connection.close()

    async def test_names_all_that_is_wrong_with_its_settings_at_once(self) -> None:
        status, said = await end_of({"PAYMENTS_DATABASE_URL": "mysql://secret@host", "PAYMENTS_POLL": "soon"})
        assert status == os.EX_CONFIG
        assert said.count("\n") == 1
        for name in (
            "PAYMENTS_DATABASE_URL",
            "PAYMENTS_WORKER_DATABASE_URL",
            "NATS_URL",
            "GRPC_LISTEN",
            "PAYMENTS_POLL",
        ):
            assert name in said
        assert "secret" not in said

    async def test_does_not_serve_a_database_that_lacks_migrations(
        self, around: Surroundings, make_database: DatabaseFactory
    ) -> None:
        database = await make_database.empty("payments")
        status, said = await end_of({**around.environment(), **database.environment()})
        assert status == os.EX_CONFIG
        assert "needs revision" in said.splitlines()[-1]
