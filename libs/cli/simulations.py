"""steelyard ratecards simulate: what another card would have charged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.output import EXIT_USAGE, Columns, Format, Output, as_dict, fail, money, print_json, say, table
from libs.cli.parsing import MAX_INT32, timestamp, zone_named
from libs.cli.simulation_files import rows_of, simulation_file
from libs.cli.yaml_messages import read_documents
from steelyard import Client
from steelyard.common.v1 import money_pb2, period_pb2
from steelyard.rating.v1 import rate_card_pb2, rate_card_service_pb2
from steelyard.rating.v1 import simulation_service_pb2 as pb

DEADLINE_S = 600.0
"""For calls that may go through all billing periods."""
_PAGE = 500

_CUSTOMERS: Columns = {
    "CUSTOMER": lambda item: item.customer_id,
    "NOW#": lambda item: item.current_minor,
    "THEN#": lambda item: item.simulated_minor,
    "CHANGE#": lambda item: f"{item.change_percent} %" if item.change_percent else "new",
}


def simulate(
    start: Annotated[str, typer.Option(help="billing periods that start in it: first instant, or a date")],
    end: Annotated[str, typer.Option(help="first instant after")],
    card: Annotated[str, typer.Option(help="a stored rate card")] = "",
    version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="of --card; 0 means the newest")] = 0,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False, help="YAML with the card to try")
    ] = None,
    priced_by: Annotated[str, typer.Option(help="only billing periods that this card prices")] = "",
    customers: Annotated[list[str] | None, typer.Option("--customer", help="only this customer")] = None,
    zone: Annotated[str, typer.Option(help="IANA zone of dates; default: UTC")] = "",
    out: Annotated[
        Path | None, typer.Option(help="write every line: Parquet if the name ends in .parquet, else CSV")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what another rate card would have charged for usage that happened: who would pay more, and who less."""
    where = zone_named(zone, "--zone")
    period = period_pb2.Period(start=timestamp(start, "--start", where), end=timestamp(end, "--end", where))
    simulation = pb.Simulation(period=period, priced_by=priced_by, customer_ids=customers or [])
    if bool(card) == (file is not None):
        raise typer.BadParameter("name one card: --card of those stored, or --file", param_hint="--card")
    if file is None:
        simulation.stored.rate_card_id, simulation.stored.version = card, version
    else:
        simulation.rate_card.CopyFrom(_card_of(file))

    async def work(client: Client) -> pb.SummarizeSimulationResponse:
        if out is not None:
            await _write(client, simulation, out)
        request = pb.SummarizeSimulationRequest(simulation=simulation)
        return await client.services.simulations.SummarizeSimulation(request, timeout=DEADLINE_S)

    try:
        summary = as_tenant(work)
    except (OSError, ValueError) as error:
        fail(error, EXIT_USAGE)
    if output is Format.JSON:
        print_json(as_dict(summary))
    else:
        for part in (summary, *summary.further_currencies):
            _print(part)


def rollout_guard(
    max_change: str, start: str, end: str, override_reason: str
) -> rate_card_service_pb2.RolloutGuard | None:
    """Return the guard that options ask for, if they do.

    :raises typer.BadParameter: if one is missing
    """
    if not max_change:
        if start or end or override_reason:
            raise typer.BadParameter("is missing", param_hint="--max-change")
        return None
    utc = zone_named("", "--zone")
    period = period_pb2.Period(start=timestamp(start, "--guard-start", utc), end=timestamp(end, "--guard-end", utc))
    return rate_card_service_pb2.RolloutGuard(
        period=period, max_change_percent=max_change, override_reason=override_reason
    )


def _card_of(file: Path) -> rate_card_pb2.RateCard:
    try:
        documents = read_documents(file.read_text(encoding="utf-8-sig"), rate_card_pb2.RateCard)
    except (OSError, ValueError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)
    if len(documents) != 1:
        fail(ValueError(f"{file}: has {len(documents)} cards, one is simulated at a time"), EXIT_USAGE)
    card: rate_card_pb2.RateCard = documents[0].message
    return card


async def _write(client: Client, simulation: pb.Simulation, path: Path) -> None:
    with simulation_file(path) as file:
        request = pb.SimulateRequest(simulation=simulation, page_size=_PAGE)
        while True:
            page = await client.services.simulations.Simulate(request)
            file.add([row for period in page.periods for row in rows_of(period)])
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return


def _print(summary: pb.SummarizeSimulationResponse) -> None:
    now, then = (
        money(money_pb2.Money(minor_units=amount, currency=summary.currency))
        for amount in (summary.current_minor, summary.simulated_minor)
    )
    say(f"{summary.period_count} billing periods: {now} {summary.currency} now, {then} then")
    say(
        f"{summary.loser_count} customers would pay more, {summary.winner_count} less,"
        f" {summary.unchanged_count} the same"
    )
    for reason in sorted(summary.problems):
        say(f"not compared: {summary.problems[reason]} billing periods, {reason}")
    rows = ((_range_of(bucket), bucket.customer_count) for bucket in summary.distribution)
    table(["CHANGE", "CUSTOMERS#"], rows)
    for title, customers in (
        ("Largest increases, in minor units", summary.largest_increases),
        ("Largest decreases, in minor units", summary.largest_decreases),
    ):
        if customers:
            cells = ([cell(customer) for cell in _CUSTOMERS.values()] for customer in customers)
            table(_CUSTOMERS.keys(), cells, title=title)


def _range_of(bucket: pb.SimulationBucket) -> str:
    start, end = bucket.from_percent, bucket.to_percent
    if not start and not end:
        return "new charges"
    if start == end:
        return "unchanged"
    if not start:
        return f"below {end} %"
    return f"{start} to {end} %" if end else f"above {start} %"
