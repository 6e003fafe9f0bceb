"""Who the command talks to, and as whom.

Targets come from STEELYARD_*_TARGET, or else from the stack that `steelyard up` keeps running here.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from libs.cli.output import fail
from libs.embedded.stack import running_endpoints
from steelyard import Client, Endpoints, Options, SteelyardError

T = TypeVar("T")


def endpoints() -> Endpoints:
    """Return the targets of the environment, completed from the running stack."""
    named, running = Endpoints.from_env(), running_endpoints()
    if running is None:
        return named
    return Endpoints(
        ingest=named.ingest or running.ingest,
        query=named.query or running.ingest_query,
        rating=named.rating or running.rating,
        billing=named.billing or running.billing,
        payments=named.payments or running.payments,
    )


def operator_key() -> str:
    """Return the operator's key: STEELYARD_OPERATOR_KEY, or the running stack's.

    :raises typer.BadParameter: if there is neither
    """
    running = running_endpoints()
    key = os.environ.get("STEELYARD_OPERATOR_KEY") or (running.operator_key if running else "")
    if not key:
        raise typer.BadParameter("set STEELYARD_OPERATOR_KEY, or run `steelyard up` first")
    return key


def api_key() -> str:
    """Return the tenant's key: STEELYARD_API_KEY.

    :raises typer.BadParameter: if it is not set
    """
    key = os.environ.get("STEELYARD_API_KEY", "")
    if not key:
        raise typer.BadParameter("set STEELYARD_API_KEY (`steelyard tenants create` prints one)")
    return key


def request_id() -> str:
    """Return a fresh request id; the SDK repeats it when it tries a call again."""
    return str(uuid.uuid4())


def as_tenant(work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with the tenant's key; print what fails and leave with its exit code."""
    return _run(work, api_key())


def as_operator(work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with the operator's key."""
    return _run(work, operator_key())


def _run(work: Callable[[Client], Awaitable[T]], secret: str) -> T:
    async def connected() -> T:
        options = Options(call_timeout_s=30)
        async with Client(api_key=secret, endpoints=endpoints(), source="cli", options=options) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except SteelyardError as error:
        fail(error)
