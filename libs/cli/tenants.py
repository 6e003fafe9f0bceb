"""steelyard tenants ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_operator, request_id
from libs.cli.output import ERRORS, Format, Output, as_dict, instant, note, print_json, say, show
from libs.cli.parsing import MAX_INT32, timestamp
from steelyard import Client
from steelyard.billing.v1 import tenant_pb2, tenant_service_pb2

app = typer.Typer(help="Tenants, their keys and test clocks (operator).", no_args_is_help=True)

TENANT_COLUMNS = {
    "TENANT": lambda tenant: tenant.tenant_id,
    "NAME": lambda tenant: tenant.display_name,
    "TEST CLOCK": lambda tenant: instant(tenant.test_clock_time),
    "CREATED": lambda tenant: instant(tenant.create_time),
}
KEY_COLUMNS = {
    "KEY": lambda key: key.key_id,
    "NAME": lambda key: key.display_name,
    "CREATED": lambda key: instant(key.create_time),
    "REVOKED": lambda key: instant(key.revoke_time),
}


@app.command("create")
def create(
    tenant_id: str,
    name: Annotated[str, typer.Option(help="name for people")] = "",
    test_clock: Annotated[str | None, typer.Option(help="live on a test clock that starts at this instant")] = None,
    grace_s: Annotated[
        int | None, typer.Option(min=0, max=MAX_INT32, help="seconds after a period's end before it is invoiced")
    ] = None,
    strict: Annotated[bool, typer.Option(help="reject events of unknown customers")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Create a tenant and its first API key, which is printed this once."""
    tenant = tenant_pb2.Tenant(
        tenant_id=tenant_id,
        display_name=name or tenant_id,
        invoice_grace_s=grace_s,
        reject_unknown_customers=strict,
        test_clock_time=timestamp(test_clock, "--test-clock"),
    )

    async def work(client: Client) -> tenant_service_pb2.CreateApiKeyResponse:
        await client.services.tenants.CreateTenant(
            tenant_service_pb2.CreateTenantRequest(request_id=request_id(), tenant=tenant)
        )
        return await _create_key(client, tenant_id, "first")

    _print_key(as_operator(work), output)


@app.command("list")
def list_tenants(output: Output = Format.TABLE) -> None:
    """List tenants."""

    async def work(client: Client) -> list[tenant_pb2.Tenant]:
        tenants: list[tenant_pb2.Tenant] = []
        token = ""
        while True:
            page = await client.services.tenants.ListTenants(tenant_service_pb2.ListTenantsRequest(page_token=token))
            tenants.extend(page.tenants)
            token = page.next_page_token
            if not token:
                return tenants

    show(as_operator(work), TENANT_COLUMNS, output)


@app.command("create-key")
def create_key(
    tenant_id: str,
    name: Annotated[str, typer.Option(help="name for people")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Create another API key, which is printed this once."""
    _print_key(as_operator(lambda client: _create_key(client, tenant_id, name)), output)


@app.command("keys")
def keys(tenant_id: str, output: Output = Format.TABLE) -> None:
    """List a tenant's API keys."""

    async def work(client: Client) -> tenant_service_pb2.ListApiKeysResponse:
        return await client.services.tenants.ListApiKeys(tenant_service_pb2.ListApiKeysRequest(tenant_id=tenant_id))

    show(as_operator(work).api_keys, KEY_COLUMNS, output)


@app.command("revoke-key")
def revoke_key(tenant_id: str, key_id: str, output: Output = Format.TABLE) -> None:
    """Revoke an API key; it is refused everywhere within 5 seconds."""

    async def work(client: Client) -> tenant_service_pb2.RevokeApiKeyResponse:
        return await client.services.tenants.RevokeApiKey(
            tenant_service_pb2.RevokeApiKeyRequest(request_id=request_id(), tenant_id=tenant_id, key_id=key_id)
        )

    show([as_operator(work).api_key], KEY_COLUMNS, output)


@app.command("advance-clock")
def advance_clock(
    tenant_id: str,
    time: Annotated[str, typer.Argument(help="RFC 3339, or a date in UTC")],
    output: Output = Format.TABLE,
) -> None:
    """Move a tenant's test clock forward to TIME."""
    to = timestamp(time, "TIME")

    async def work(client: Client) -> tenant_service_pb2.AdvanceClockResponse:
        return await client.services.tenants.AdvanceClock(
            tenant_service_pb2.AdvanceClockRequest(request_id=request_id(), tenant_id=tenant_id, time=to)
        )

    with ERRORS.status("waiting until every service has seen the new time"):
        response = as_operator(work)
    if output is Format.JSON:
        print_json(as_dict(response))
    else:
        say(f"{tenant_id} is at {instant(response.time)}")


async def _create_key(client: Client, tenant_id: str, name: str) -> tenant_service_pb2.CreateApiKeyResponse:
    return await client.services.tenants.CreateApiKey(
        tenant_service_pb2.CreateApiKeyRequest(request_id=request_id(), tenant_id=tenant_id, display_name=name)
    )


def _print_key(response: tenant_service_pb2.CreateApiKeyResponse, output: Format) -> None:
    if output is Format.JSON:
        print_json(as_dict(response))
        return
    note(f"API key {response.api_key.key_id}, shown this once:")
    typer.echo(f"export STEELYARD_API_KEY={response.secret}")  # Alone on stdout: a shell may eval it.
