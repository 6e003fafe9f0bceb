"""The sandbox gateway: a deterministic stand-in for a payment gateway, with a record of its own.

It acts by the token (see PaymentMethod in the protos) and commits its record before it answers, apart from our own
transactions, so that it knows what happened when payments does not. Like the real ones it honours idempotency keys: the
first outcome under a key is the outcome, and the same key with another amount is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from libs.clock import Clock
from libs.database import Database, is_outage, raw
from libs.ids import new_id
from libs.money import Money
from services.payments.domain.gateway import (
    Captured,
    ChargeRequest,
    Declined,
    GatewayCharge,
    NeverSeen,
    NoAnswer,
    Outcome,
)

OK, DECLINE_THEN_OK, DECLINE_HARD = "tok_ok", "tok_decline_then_ok", "tok_decline_hard"
TIMEOUT_AFTER_CHARGE, TIMEOUT_BEFORE_CHARGE = "tok_timeout_after_charge", "tok_timeout_before_charge"

_CAPTURED, _DECLINED, _DROPPED = "captured", "declined", "dropped"
_SOFT_CODE, _HARD_CODE, _UNKNOWN_TOKEN = "insufficient_funds", "stolen_card", "no_such_token"
_HARD_CODES = {_HARD_CODE, _UNKNOWN_TOKEN}

_COLUMNS = "idempotency_key, charge_id, reference, currency, amount_minor_units, outcome, decline_code"
_INSERT = f"""
INSERT INTO sandbox_gateway_charges (tenant_id, idempotency_key, charge_id, reference, token, currency,
    amount_minor_units, outcome, decline_code, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
RETURNING {_COLUMNS}, set_config('synchronous_commit', 'off', true) AS without_waiting_for_the_disk
"""  # noqa: S608
_FIND = f"SELECT {_COLUMNS} FROM sandbox_gateway_charges WHERE tenant_id = $1 AND idempotency_key = $2"  # noqa: S608
_CAPTURES = f"""
SELECT {_COLUMNS} FROM sandbox_gateway_charges
WHERE tenant_id = $1 AND ($2::text[] IS NULL OR reference = ANY ($2)) AND outcome = 'captured' ORDER BY charge_id
"""  # noqa: S608
_EARLIER_DECLINES = """
SELECT count(*) FROM sandbox_gateway_charges
WHERE tenant_id = $1 AND reference = $2 AND token = $3 AND outcome = 'declined'
"""
_RETRY_DROPPED = """
UPDATE sandbox_gateway_charges SET outcome = 'captured'
WHERE tenant_id = $1 AND idempotency_key = $2 AND outcome = 'dropped'
"""


class SandboxGateway:
    """See services.payments.usecases.ports.Gateway."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def charge(self, tenant_id: str, request: ChargeRequest) -> Outcome:
        try:
            async with self._database.transaction(tenant_id) as connection:
                row, first = await self._record(await raw(connection), tenant_id, request)
        except Exception as error:
            if not is_outage(error):
                raise
            return NoAnswer(f"the sandbox's record is away: {error!r}")
        if (row["amount_minor_units"], row["currency"]) != (request.amount.minor_units, request.amount.currency):
            return NoAnswer("the idempotency key was used for another amount")
        if first and request.token in (TIMEOUT_AFTER_CHARGE, TIMEOUT_BEFORE_CHARGE):
            return NoAnswer("timed out")
        return _outcome(row)

    async def find(self, tenant_id: str, idempotency_key: str) -> Outcome | NeverSeen:
        try:
            async with self._database.transaction(tenant_id) as connection:
                row = await (await raw(connection)).fetchrow(_FIND, tenant_id, idempotency_key)
        except Exception as error:
            if not is_outage(error):
                raise
            return NoAnswer(f"the sandbox's record is away: {error!r}")
        if row is None or row["outcome"] == _DROPPED:
            return NeverSeen()
        return _outcome(row)

    async def captures(self, tenant_id: str, references: Sequence[str] | None) -> list[GatewayCharge]:
        chosen = None if references is None else list(references)
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_CAPTURES, tenant_id, chosen)
        return [
            GatewayCharge(
                row["charge_id"],
                row["idempotency_key"],
                row["reference"],
                Money(row["amount_minor_units"], row["currency"]),
            )
            for row in rows
        ]

    async def _record(
        self, connection: asyncpg.Connection, tenant_id: str, request: ChargeRequest
    ) -> tuple[dict[str, Any], bool]:
        """Write the outcome under the key, or read what is there; and whether this call is the first to be seen.

        The commit does not wait for the disk: ours of the outcome comes later in the same write-ahead log and takes it
        along. Should the server die before, the gateway has forgotten a call whose outcome nobody knows: it is made
        again under the same key.
        """
        outcome, code = await self._decide(connection, tenant_id, request)
        amount = request.amount
        inserted = await connection.fetchrow(
            _INSERT,
            tenant_id,
            request.idempotency_key,
            new_id("ch"),
            request.reference,
            request.token,
            amount.currency,
            amount.minor_units,
            outcome,
            code,
            self._clock(),
        )
        if inserted is not None:
            return dict(inserted), True
        # What was dropped on its way arrives this time.
        await connection.execute(_RETRY_DROPPED, tenant_id, request.idempotency_key)
        return dict(await connection.fetchrow(_FIND, tenant_id, request.idempotency_key)), False

    async def _decide(self, connection: asyncpg.Connection, tenant_id: str, request: ChargeRequest) -> tuple[str, str]:
        if request.token in (OK, TIMEOUT_AFTER_CHARGE):
            return _CAPTURED, ""
        if request.token == TIMEOUT_BEFORE_CHARGE:
            return _DROPPED, ""
        if request.token == DECLINE_THEN_OK:
            declines = await connection.fetchval(_EARLIER_DECLINES, tenant_id, request.reference, request.token)
            return (_CAPTURED, "") if declines else (_DECLINED, _SOFT_CODE)
        return _DECLINED, _HARD_CODE if request.token == DECLINE_HARD else _UNKNOWN_TOKEN


def _outcome(row: dict[str, Any]) -> Captured | Declined:
    if row["outcome"] == _CAPTURED:
        return Captured(row["charge_id"], Money(row["amount_minor_units"], row["currency"]))
    code = row["decline_code"]
    return Declined(code, hard=code in _HARD_CODES, charge_id=row["charge_id"])
