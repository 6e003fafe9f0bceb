"""steelyard ratecards clone | diff: cards beside each other."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import EXIT_NO, Columns, Format, Output, instant, print_json, say, show
from libs.cli.parsing import MAX_INT32
from libs.cli.yaml_messages import to_yaml
from steelyard import Client
from steelyard.rating.v1 import rate_card_pb2, rate_card_service_pb2


def currencies(card: rate_card_pb2.RateCard) -> str:
    """Those that a card has prices in."""
    return ", ".join([card.currency, *(further.currency for further in card.further_currencies)])


_COLUMNS: Columns = {
    "RATE CARD": lambda card: card.rate_card_id,
    "VERSION#": lambda card: card.version,
    "CURRENCY": currencies,
    "EFFECTIVE": lambda card: instant(card.effective_time),
}
_OF_THE_SERVER = ("version", "create_time", "override_reason", "archive_time", "archive_reason")
Card = Annotated[str, typer.Argument(help="a rate card, as ID or ID@VERSION; without a version the newest")]


def clone(
    source: Card, rate_card: Annotated[str, typer.Argument(help="id of the new one")], output: Output = Format.TABLE
) -> None:
    """Store a copy of SOURCE as the first version of a new card, in force from the start."""

    async def work(client: Client) -> rate_card_pb2.RateCard:
        card = await _get(client, source)
        card.rate_card_id = rate_card
        card.ClearField("effective_time")
        request = rate_card_service_pb2.CreateRateCardRequest(request_id=request_id(), rate_card=card)
        return (await client.services.rate_cards.CreateRateCard(request)).rate_card

    show([as_tenant(work)], _COLUMNS, output)


def diff(before: Card, after: Card, output: Output = Format.TABLE) -> None:
    """Show how two cards, or two versions of one, differ. Exit code 1 if they do."""

    async def work(client: Client) -> tuple[rate_card_pb2.RateCard, rate_card_pb2.RateCard]:
        return await _get(client, before), await _get(client, after)

    left, right = (to_yaml(card).splitlines() for card in as_tenant(work))
    lines = list(difflib.unified_diff(left, right, before, after, n=1_000, lineterm=""))
    if output is Format.JSON:
        print_json({"same": not lines, "diff": lines})
    else:
        for line in lines:
            say(line)
    if lines:
        raise typer.Exit(EXIT_NO)


async def _get(client: Client, named: str) -> rate_card_pb2.RateCard:
    """The card without what the server has set."""
    rate_card_id, _, version = named.rpartition("@")
    if not rate_card_id or not version.isdecimal() or int(version) > MAX_INT32:
        rate_card_id, version = named, "0"  # An id may hold an @ itself.
    request = rate_card_service_pb2.GetRateCardRequest(rate_card_id=rate_card_id, version=int(version))
    card = (await client.services.rate_cards.GetRateCard(request)).rate_card
    clear_what_the_server_sets(card)
    return card


def clear_what_the_server_sets(card: rate_card_pb2.RateCard) -> None:
    """Leave only what a card agrees on."""
    for field in _OF_THE_SERVER:
        card.ClearField(field)  # type: ignore[arg-type]
