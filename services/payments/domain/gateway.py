"""What a gateway can answer. An exception is never an answer: what is not one of these is unknown."""

from __future__ import annotations

from dataclasses import dataclass

from libs.money import Money


@dataclass(frozen=True, slots=True)
class Captured:
    """The money was taken."""

    charge_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class Declined:
    """The money was not taken. `hard`: no further try with this method can succeed."""

    code: str
    hard: bool
    charge_id: str = ""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Time-out, broken connection, server error: the money may or may not have been taken."""

    detail: str


@dataclass(frozen=True, slots=True)
class NeverSeen:
    """The gateway knows nothing of the key: the call has not arrived (yet)."""


Outcome = Captured | Declined | NoAnswer


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """What the gateway is asked to take. `reference` is our invoice id, for its records."""

    idempotency_key: str
    token: str
    amount: Money
    reference: str


@dataclass(frozen=True, slots=True)
class GatewayCharge:
    """A capture in the gateway's own record."""

    charge_id: str
    idempotency_key: str
    reference: str
    amount: Money
