"""steelyard ratecards ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import Parse, ParseError

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import (
    EXIT_REFUSED,
    EXIT_USAGE,
    Columns,
    Format,
    Output,
    as_dict,
    fail,
    instant,
    print_json,
    show,
)
from libs.cli.parsing import MAX_INT32
from libs.cli.ratecard_archive import archive, unarchive
from libs.cli.ratecard_copies import clear_what_the_server_sets, clone, currencies, diff
from libs.cli.ratecard_preview import preview
from libs.cli.simulations import DEADLINE_S, rollout_guard, simulate
from libs.cli.yaml_messages import Document, read_documents, to_yaml
from steelyard import Client, InvalidRequest
from steelyard.rating.v1 import rate_card_pb2, rate_card_service_pb2

_NEW, _NEXT, _SAME = "create", "next version", "unchanged"

app = typer.Typer(help="Rate cards and what usage would cost.", no_args_is_help=True)
app.command("simulate")(simulate)
app.command("clone")(clone)
app.command("diff")(diff)
app.command("preview")(preview)
app.command("archive")(archive)
app.command("unarchive")(unarchive)

AllowPast = Annotated[
    bool, typer.Option("--allow-past", help="take an effective_time that is over, which changes what has begun")
]
COLUMNS: Columns = {
    "RATE CARD": lambda card: card.rate_card_id,
    "VERSION#": lambda card: card.version,
    "CURRENCY": currencies,
    "PRICES": lambda card: ", ".join(f"{price.price_id} ({price.WhichOneof('model')})" for price in card.prices),
    "EFFECTIVE": lambda card: instant(card.effective_time),
    "ARCHIVED": lambda card: instant(card.archive_time),
}


@app.command("create")
def create(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON; amounts and quantities are text")],
    allow_past: AllowPast = False,
    output: Output = Format.TABLE,
) -> None:
    """Store the rate card of FILE (JSON, field names as in the RateCard proto): a new card, or its next version."""
    try:
        card = Parse(file.read_text(encoding="utf-8-sig"), rate_card_pb2.RateCard())
    except (OSError, ValueError, ParseError, RecursionError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    async def work(client: Client) -> rate_card_pb2.RateCard:
        return await _create(client, card, allow_past=allow_past)

    show([as_tenant(work)], COLUMNS, output)


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="YAML, one document a card")],
    dry_run: Annotated[bool, typer.Option(help="only check, and print the plan")] = False,
    max_change: Annotated[
        str, typer.Option(help="store nothing that changes what a customer paid by more per cent than this")
    ] = "",
    guard_start: Annotated[str, typer.Option(help="with --max-change: billing periods that start in it")] = "",
    guard_end: Annotated[str, typer.Option(help="first instant after")] = "",
    override_reason: Annotated[str, typer.Option(help="store in spite of --max-change, and keep this reason")] = "",
    allow_past: AllowPast = False,
    output: Output = Format.TABLE,
) -> None:
    """Store those rate cards of FILE that are new or changed, the latter as next versions; nothing if one is wrong."""
    try:
        documents = read_documents(file.read_text(encoding="utf-8-sig"), rate_card_pb2.RateCard)
    except (OSError, ValueError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    guard = rollout_guard(max_change, guard_start, guard_end, override_reason)

    async def work(client: Client) -> list[tuple[str, rate_card_pb2.RateCard]]:
        there = {card.rate_card_id: card.version for card in await _all_cards(client)}
        planned = [
            await _planned(client, file, document, there, guard, allow_past=allow_past) for document in documents
        ]
        if dry_run:
            return planned
        done = []
        for (plan, card), document in zip(planned, documents, strict=True):
            if plan != _SAME:
                card = await _create(client, document.message, guard, allow_past=allow_past)
            done.append((plan, card))
        return done

    cards = as_tenant(work)
    if output is Format.JSON:
        print_json([{"rate_card": as_dict(card), "plan": plan} for plan, card in cards])
    else:
        plans = {id(card): plan for plan, card in cards}
        show([card for _, card in cards], {"PLAN": lambda card: plans[id(card)], **COLUMNS}, output)


@app.command("export")
def export(
    rate_card: str, version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="0 means the newest")] = 0
) -> None:
    """Print a rate card as YAML that `apply` takes."""

    async def work(client: Client) -> rate_card_pb2.RateCard:
        return await _get(client, rate_card, version)

    card = as_tenant(work)
    clear_what_the_server_sets(card)
    typer.echo(to_yaml(card), nl=False)


@app.command("list")
def list_cards(output: Output = Format.TABLE) -> None:
    """List the newest version of each rate card."""
    show(as_tenant(_all_cards), COLUMNS, output)


@app.command("show")
def show_card(
    rate_card: str,
    version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="0 means the newest")] = 0,
    output: Output = Format.JSON,
) -> None:
    """Print a rate card, by default as JSON in the form that `create` takes."""

    async def work(client: Client) -> rate_card_pb2.RateCard:
        return await _get(client, rate_card, version)

    card = as_tenant(work)
    if output is Format.JSON:
        print_json(as_dict(card))
    else:
        show([card], COLUMNS, output)


async def _all_cards(client: Client) -> list[rate_card_pb2.RateCard]:
    cards: list[rate_card_pb2.RateCard] = []
    token = ""
    while True:
        page = await client.services.rate_cards.ListRateCards(
            rate_card_service_pb2.ListRateCardsRequest(page_token=token)
        )
        cards.extend(page.rate_cards)
        token = page.next_page_token
        if not token:
            return cards


async def _get(client: Client, rate_card_id: str, version: int) -> rate_card_pb2.RateCard:
    request = rate_card_service_pb2.GetRateCardRequest(rate_card_id=rate_card_id, version=version)
    return (await client.services.rate_cards.GetRateCard(request)).rate_card


async def _create(
    client: Client,
    card: rate_card_pb2.RateCard,
    guard: rate_card_service_pb2.RolloutGuard | None = None,
    *,
    allow_past: bool,
) -> rate_card_pb2.RateCard:
    request = rate_card_service_pb2.CreateRateCardRequest(
        request_id=request_id(), rate_card=card, rollout_guard=guard, allow_past_effective_time=allow_past
    )
    return (await client.services.rate_cards.CreateRateCard(request, timeout=DEADLINE_S)).rate_card


async def _planned(
    client: Client,
    file: Path,
    document: Document,
    there: Mapping[str, int],
    guard: rate_card_service_pb2.RolloutGuard | None,
    *,
    allow_past: bool,
) -> tuple[str, rate_card_pb2.RateCard]:
    """What will be done with a card, and the version that there will be."""
    request = rate_card_service_pb2.CreateRateCardRequest(
        rate_card=document.message,
        validate_only=True,
        rollout_guard=guard,
        allow_past_effective_time=allow_past,
    )
    try:
        card = (await client.services.rate_cards.CreateRateCard(request, timeout=DEADLINE_S)).rate_card
    except InvalidRequest as error:
        if not error.violations:
            raise
        wrong = [f"line {document.line_of(v.field)}: {v.field}: {v.description} ({v.reason})" for v in error.violations]
        fail(ValueError("\n".join([f"{file}: {error.args[0]}", *wrong])), EXIT_REFUSED)
    version = there.get(card.rate_card_id, 0)
    return (_SAME if card.version == version else _NEXT if version else _NEW), card
