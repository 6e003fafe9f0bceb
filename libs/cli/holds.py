"""steelyard holds ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_operator, request_id
from libs.cli.output import Format, Output, instant, name_of, show
from steelyard import Client
from steelyard.ingest.v1 import hold_service_pb2 as pb

app = typer.Typer(help="What of the usage holds invoices, and decisions about it (operator).", no_args_is_help=True)

HOLD_COLUMNS = {
    "HOLD": lambda hold: hold.hold_id,
    "KIND": lambda hold: name_of(pb.HoldKind, hold.kind, "HOLD_KIND"),
    "TENANT": lambda hold: hold.tenant_id or "everybody",
    "WHAT": lambda hold: hold.description,
    "NOTICED": lambda hold: instant(hold.notice_time),
}
RESOLUTION_COLUMNS = {
    "HOLD": lambda resolution: resolution.hold_id,
    "REASON": lambda resolution: resolution.reason,
    "ACTOR": lambda resolution: resolution.actor,
    "RESOLVED": lambda resolution: instant(resolution.resolve_time),
}
Tenant = Annotated[str, typer.Option(help="only what holds this tenant")]


@app.command("list")
def list_holds(tenant: Tenant = "", output: Output = Format.TABLE) -> None:
    """List open holds: queue losses, missing batches, parked messages."""
    show(as_operator(lambda client: all_holds(client, tenant)), HOLD_COLUMNS, output)


@app.command("resolve")
def resolve(
    hold_ids: Annotated[list[str], typer.Argument(help="from `steelyard holds list`")],
    reason: Annotated[str, typer.Option(help="why it may be passed; kept")],
    actor: Annotated[str, typer.Option(help="who decides it; kept")],
    output: Output = Format.TABLE,
) -> None:
    """Lift holds. What they are about was sent again, or is given up: that is on you. See docs/runbooks."""

    async def work(client: Client) -> list[pb.HoldResolution]:
        decisions = [
            pb.ResolveHoldRequest(request_id=request_id(), hold_id=hold_id, reason=reason, actor=actor)
            for hold_id in hold_ids
        ]
        return [(await client.services.holds.ResolveHold(decision)).resolution for decision in decisions]

    show(as_operator(work), RESOLUTION_COLUMNS, output)


@app.command("history")
def history(
    tenant: Annotated[str, typer.Option(help="whose holds; else those that held everybody")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List what was decided, by whom and why."""

    async def work(client: Client) -> list[pb.HoldResolution]:
        found: list[pb.HoldResolution] = []
        request = pb.ListHoldResolutionsRequest(tenant_id=tenant)
        while True:
            page = await client.services.holds.ListHoldResolutions(request)
            found.extend(page.resolutions)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_operator(work), RESOLUTION_COLUMNS, output)


async def all_holds(client: Client, tenant_id: str = "") -> list[pb.Hold]:
    """Every open hold, of one tenant or of all; an operator's client."""
    holds: list[pb.Hold] = []
    request = pb.ListHoldsRequest(tenant_id=tenant_id)
    while True:
        page = await client.services.holds.ListHolds(request)
        holds.extend(page.holds)
        request.page_token = page.next_page_token
        if not request.page_token:
            return holds
