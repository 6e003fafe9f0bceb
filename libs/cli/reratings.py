"""steelyard charges rerate | reratings: charges made anew."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import EXIT_NO, Columns, Format, Output, as_dict, instant, print_json, quantity, say, show
from libs.cli.parsing import timestamp, zone_named
from steelyard import Client
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import rerating_service_pb2 as pb

_DEADLINE_S = 60.0

_CHANGES: Columns = {
    "CUSTOMER": lambda change: change.customer_id,
    "SUBSCRIPTION": lambda change: change.subscription_id,
    "PERIOD": lambda change: instant(change.period.start),
    "LINE": lambda change: change.price_id,
    "BEFORE#": lambda change: _amount(change.before, change.currency) if change.HasField("before") else "-",
    "AFTER#": lambda change: _amount(change.after, change.currency),
}
_LISTED: Columns = {
    "AT": lambda change: instant(change.rerate_time),
    **_CHANGES,
    "REASON": lambda change: change.reason,
    "ACTOR": lambda change: change.actor,
}


def rerate(
    start: Annotated[str, typer.Option(help="billing periods that start in it: first instant, or a date")],
    end: Annotated[str, typer.Option(help="first instant after")],
    reason: Annotated[str, typer.Option(help="why; not needed with --dry-run")] = "",
    actor: Annotated[str, typer.Option(help="who")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would change")] = False,
    priced_by: Annotated[str, typer.Option(help="only billing periods that this card prices")] = "",
    customers: Annotated[list[str] | None, typer.Option("--customer", help="only this customer")] = None,
    zone: Annotated[str, typer.Option(help="IANA zone of dates; default: UTC")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Rate billing periods again, from ingest's usage and the cards in force, and show which charges that changes.

    Where all is well nothing changes. Exit code 1 if a billing period cannot be rated, or lacks usage.
    """
    if not reason and not dry_run:
        raise typer.BadParameter("say why, or try --dry-run", param_hint="--reason")
    where = zone_named(zone, "--zone")
    request = pb.RerateRequest(
        period=period_pb2.Period(start=timestamp(start, "--start", where), end=timestamp(end, "--end", where)),
        priced_by=priced_by,
        customer_ids=customers or [],
        reason=reason,
        actor=actor,
        dry_run=dry_run,
    )

    async def work(client: Client) -> pb.RerateResponse:
        whole = pb.RerateResponse()
        while True:
            # A page is a mutation of its own; what has been done stays done if a later one fails.
            request.request_id = request_id()
            page = await client.services.reratings.Rerate(request, timeout=_DEADLINE_S)
            whole.period_count += page.period_count
            whole.charges.extend(page.charges)
            whole.problems.extend(page.problems)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return whole

    found = as_tenant(work)
    if output is Format.JSON:
        print_json(as_dict(found))
    else:
        show(found.charges, _CHANGES, output)
        say(f"{found.period_count} billing periods, {len(found.charges)} charges {'would ' if dry_run else ''}change")
        for problem in found.problems:
            say(f"{problem.subscription_id} {instant(problem.period.start)}: {problem.reason}: {problem.description}")
    if found.problems:
        raise typer.Exit(EXIT_NO)


def reratings(
    subscription: Annotated[str, typer.Option(help="only of this subscription")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List the charges that were changed by rating again, newest first, with the reason."""

    async def work(client: Client) -> list[pb.ReratedCharge]:
        found: list[pb.ReratedCharge] = []
        request = pb.ListReratedChargesRequest(subscription_id=subscription)
        while True:
            page = await client.services.reratings.ListReratedCharges(request)
            found.extend(page.charges)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    show(as_tenant(work), _LISTED, output)


def _amount(content: pb.RatedContent, currency: str) -> str:
    return f"{quantity(content.amount)} {currency}"
