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

from libs.cli.home import running
from libs.cli.output import fail, note
from libs.embedded.state import Endpoints as StackEndpoints
from steelyard import Client, Endpoints, Options, SteelyardError, Unavailable

T = TypeVar("T")


def endpoints() -> Endpoints:
    """Return the targets of the environment, completed from the running stack.

    :raises Unavailable: if there is neither
    """
    named = Endpoints.from_env()
    if _targets(named).issuperset(Endpoints.__slots__):
        return named
    stack = running()
    if stack is None:
        if not _targets(named):
            raise not_running()
        return named
    found = _endpoints_of(stack)
    return Endpoints(*(getattr(named, name) or getattr(found, name) for name in Endpoints.__slots__))


def not_running() -> Unavailable:
    """The error of a command that finds nobody to talk to."""
    return Unavailable("nothing is running here: `steelyard up` starts it; STEELYARD_*_TARGET name services elsewhere")


def operator_key() -> str:
    """Return the operator's key: STEELYARD_OPERATOR_KEY, or the running stack's.

    :raises typer.BadParameter: if there is neither
    """
    key = os.environ.get("STEELYARD_OPERATOR_KEY", "")
    if not key:
        stack = running()
        key = stack.operator_key if stack else ""
    if not key:
        raise typer.BadParameter("set STEELYARD_OPERATOR_KEY, or run `steelyard up` first")
    return _checked(key, "STEELYARD_OPERATOR_KEY")


def api_key() -> str:
    """Return the tenant's key: STEELYARD_API_KEY.

    :raises typer.BadParameter: if it is not set
    """
    key = os.environ.get("STEELYARD_API_KEY", "")
    if not key:
        raise typer.BadParameter("set STEELYARD_API_KEY (`steelyard tenants create` prints one)")
    return _checked(key, "STEELYARD_API_KEY")


def request_id() -> str:
    """Return a fresh request id; the SDK repeats it when it tries a call again."""
    return str(uuid.uuid4())


def as_tenant(work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with the tenant's key; print what fails and leave with its exit code."""
    return _run(work, api_key())


def as_operator(work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with the operator's key."""
    return _run(work, operator_key())


def _endpoints_of(stack: StackEndpoints) -> Endpoints:
    return Endpoints(
        ingest=stack.ingest,
        query=stack.ingest_query,
        rating=stack.rating,
        billing=stack.billing,
        payments=stack.payments,
    )


def _targets(named: Endpoints) -> set[str]:
    return {name for name in Endpoints.__slots__ if getattr(named, name)}


def _checked(key: str, variable: str) -> str:
    # A key travels in a header, which holds nothing else; a line end from a file is the usual guest.
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise typer.BadParameter(f"{variable} holds blanks, control characters or letters that no key has")
    return key


def _run(work: Callable[[Client], Awaitable[T]], secret: str) -> T:
    async def connected() -> T:
        options = Options(call_timeout_s=30)
        async with Client(api_key=secret, endpoints=endpoints(), source="cli", options=options) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except SteelyardError as error:
        if isinstance(error, Unavailable):
            _note_old_targets()
        fail(error)


def _note_old_targets() -> None:
    """Say so if this shell still has the ports of an earlier `steelyard up`."""
    stack = running() if _targets(Endpoints.from_env()) else None
    if stack is not None and endpoints() != _endpoints_of(stack):
        note('STEELYARD_*_TARGET name other ports than the stack that runs: eval "$(steelyard env)"')
