"""A person settles an attempt: over gRPC, on the command line, and at the same time as the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from libs.embedded.nats_server import EmbeddedNats
from libs.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from libs.messaging import DirectoryPublisher, JetStreamPublisher, directory_subject
from libs.rpc import channel, hash_api_key, internal_channel, new_api_key, typed_errors
from services.payments.domain.attempt import AttemptState
from services.payments.domain.gateway import Captured, Declined
from services.payments.domain.manual_settlement import AttemptNotUnknown, ManualOutcome
from services.payments.domain.payment import PaymentState
from services.payments.usecases.settlement import Settlement
from steelyard.billing.v1 import directory_pb2
from steelyard.payments.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc
from tests.component.payments.conftest import Logins
from tests.component.payments.processes import (
    INTERNAL_KEY,
    OPERATOR_KEY,
    ROOT,
    Surroundings,
    eventually,
    running,
    surroundings,
)
from tests.component.payments.test_races import meanwhile
from tests.unit.payments.fakes import Trouble
from tests.unit.payments.world import ACME, DAY, TEST_NOW, FakeGatewayWorld, eur, issued

CAPTURED, FAILED = payment_pb2.MANUAL_OUTCOME_CAPTURED, payment_pb2.MANUAL_OUTCOME_FAILED
PAID = {"gateway": 1999, "receivable": 0, "revenue": -1999}


@pytest.fixture
async def payment_id(world: FakeGatewayWorld) -> str:
    """Of a payment whose only attempt is unknown."""
    await world.set_method("ok")
    await world.hear(issued())
    world.gateway.trouble = [Trouble(lost=True)]
    await world.collect()
    payment, [attempt] = await world.payment()
    assert attempt.state is AttemptState.UNKNOWN
    return payment.payment_id


@pytest.fixture
async def around(logins: Logins, own_nats: EmbeddedNats) -> AsyncIterator[Surroundings]:
    """A process that answers calls and collects nothing."""
    async with surroundings(logins.database, own_nats.url) as made:
        await made.set_clock(TEST_NOW)
        async with running(made, "api"):
            yield made


def request(payment_id: str, **changed: object) -> payment_service_pb2.SettleAttemptRequest:
    fields: dict[str, object] = {
        "request_id": str(uuid.uuid4()),
        "tenant_id": ACME,
        "payment_id": payment_id,
        "attempt_number": 1,
        "outcome": CAPTURED,
        "gateway_reference": "ch_9",
        "reason": "seen in the gateway's console",
        "actor": "jo",
    }
    return payment_service_pb2.SettleAttemptRequest(**{**fields, **changed})  # type: ignore[arg-type]


class TestCalls:
    async def test_settle_once_and_only_for_the_operator(
        self, world: FakeGatewayWorld, payment_id: str, around: Surroundings
    ) -> None:
        asked = request(payment_id)
        async with internal_channel(around.grpc_target, INTERNAL_KEY) as opened:
            await asyncio.wait_for(opened.channel_ready(), 30)
            with pytest.raises(PermissionDenied), typed_errors():
                await payment_service_pb2_grpc.PaymentServiceStub(opened).SettleAttempt(asked)
        async with channel(around.grpc_target, key=OPERATOR_KEY) as opened:
            payments = payment_service_pb2_grpc.PaymentServiceStub(opened)

            async def refused(expected: type[Exception], **changed: object) -> str:
                with pytest.raises(expected) as error, typed_errors():
                    await payments.SettleAttempt(request(payment_id, **changed))
                return str(getattr(error.value, "reason", ""))

            assert await refused(InvalidInput, outcome=payment_pb2.MANUAL_OUTCOME_UNSPECIFIED)
            assert await refused(InvalidInput, tenant_id="")
            assert await refused(NotFound, tenant_id="other") == "PAYMENT_NOT_FOUND"
            assert await refused(NotFound, attempt_number=2) == "ATTEMPT_NOT_FOUND"

            first = (await payments.SettleAttempt(asked)).payment

            assert first.state == payment_pb2.PAYMENT_STATE_SUCCEEDED
            [attempt] = first.attempts
            assert (attempt.gateway_charge_id, attempt.settled_by) == ("ch_9", "jo")
            assert (await payments.SettleAttempt(asked)).payment == first
            assert await refused(FailedPrecondition, outcome=FAILED) == "ATTEMPT_NOT_UNKNOWN"
            again = {"request_id": asked.request_id, "actor": "al"}
            assert await refused(AlreadyExists, **again) == "REQUEST_ID_REUSED"
        assert await world.balances() == PAID


class TestTheCommandLine:
    async def test_lists_what_is_unknown_and_settles_it(
        self, world: FakeGatewayWorld, payment_id: str, around: Surroundings
    ) -> None:
        key = new_api_key(secrets.token_bytes)
        entry = directory_pb2.ApiKeyEntry(
            key_id=key.key_id, tenant_id=ACME, secret_hash=hash_api_key(key.text), version=1
        )
        directory = DirectoryPublisher(JetStreamPublisher(around.nats.jetstream()))
        await directory.put(directory_subject("key", key.key_id), entry.SerializeToString(), f"acme:key:{key.key_id}")

        async def unknown() -> list[str] | None:
            status, said = await steelyard(around, key.text, "payments", "list", "--state", "unknown", "-o", "json")
            return [payment["payment_id"] for payment in json.loads(said)] if status == 0 else None

        assert await eventually(unknown) == [payment_id]
        how = ("--try", "1", "--reason", "not in the console", "--actor", "jo", "-o", "json")

        status, said = await steelyard(around, "", "payments", "settle", ACME, payment_id, "--outcome", "failed", *how)

        assert status == 0, said
        settled = json.loads(said)
        assert (settled["state"], settled["attempts"][0]["settled_by"]) == ("PAYMENT_STATE_SCHEDULED", "jo")
        assert await unknown() == []
        status, said = await steelyard(around, "", "payments", "settle", ACME, payment_id, "--outcome", "failed", *how)
        assert (status, "is declined_soft" in said) == (4, True)


async def steelyard(around: Surroundings, api_key: str, *arguments: str) -> tuple[int | None, str]:
    """Run the command line; return its status and what it says."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "STEELYARD_PAYMENTS_TARGET": around.grpc_target,
        "STEELYARD_OPERATOR_KEY": OPERATOR_KEY,
        "STEELYARD_API_KEY": api_key,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libs.cli", *arguments),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return process.returncode, said.decode()


class TestAPersonAndTheGatewayAtOnce:
    @pytest.mark.parametrize("answer", [Captured("ch_1", eur(1999)), Declined("no_money", hard=False)])
    async def test_the_person_waits_for_an_answer_that_is_being_stored(
        self, world: FakeGatewayWorld, payment_id: str, answer: Captured | Declined
    ) -> None:
        async with world.worker(ACME) as work:
            [item] = await work.payments.lock_open([(ACME, payment_id)])
            assert item.attempt is not None
            async with meanwhile(world.settle(ManualOutcome.CAPTURED, "ch_9")) as settling:
                settlement = Settlement(world.clock())
                settlement.add(item, item.attempt, answer, TEST_NOW)
                await settlement.store(work)
        with pytest.raises(AttemptNotUnknown):
            await settling
        _, [attempt] = await world.payment()
        assert (attempt.gateway_charge_id, attempt.settled_by) == (
            "ch_1" if isinstance(answer, Captured) else "",
            "",
        )

    async def test_an_answer_waits_for_the_person(
        self, world: FakeGatewayWorld, payment_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The worker sends it again, which captures, while a person calls it failed."""
        world.clock.at += timedelta(seconds=1)
        async with world.api(ACME) as work:
            [item] = await work.payments.lock_open([(ACME, payment_id)])
            assert item.attempt is not None
            async with meanwhile(world.collect()) as collecting:
                settlement = Settlement(world.clock())
                settlement.add(item, item.attempt, Declined("failed_by_operator", hard=False), TEST_NOW)
                await settlement.store(work)
        await collecting
        # It was found to be settled before it was sent.
        assert world.gateway.charges == {}
        assert (await world.payment())[0].state is PaymentState.SCHEDULED

    async def test_many_people_and_processes_leave_one_posting(self, world: FakeGatewayWorld, payment_id: str) -> None:
        world.clock.at += timedelta(seconds=1)
        people = [world.settle(ManualOutcome.CAPTURED, f"ch_by_hand_{n}") for n in range(4)]
        people += [world.settle(ManualOutcome.FAILED) for _ in range(4)]
        processes = [world.collector()() for _ in range(4)]

        done = await asyncio.gather(*people, *processes, return_exceptions=True)
        assert {type(error) for error in done if isinstance(error, BaseException)} <= {AttemptNotUnknown}
        await world.collect_after(real=DAY)

        payment, attempts = await world.payment()
        captured = [attempt for attempt in attempts if attempt.state is AttemptState.SUCCEEDED]
        assert (payment.state is PaymentState.SUCCEEDED) == (len(captured) == 1)
        expected = PAID if captured else {"receivable": 1999, "revenue": -1999}
        assert await world.balances() == expected
        assert (await world.ledger()).unbalanced == ()
