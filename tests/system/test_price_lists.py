"""The folders of examples/price-lists on a running stack: applied by the command line, charged from real events.

What the lines must say is in the READMEs: figures of vendors, or worked out there by hand. Commands run in this
process, because starting one each time would take longer than all else here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from libs.cli.main import app
from libs.periods import Period
from services.ingest.domain.usage_batch import MAX_BATCH_EVENTS
from steelyard import Ack, Endpoints, SyncClient, UsageEvent
from steelyard.billing.v1 import customer_service_pb2, invoice_pb2, invoice_service_pb2
from steelyard.billing.v1 import subscription_service_pb2 as subscriptions
from steelyard.services import Services
from tests.support.price_lists import PriceList, PrintedLine, WorkedExample, price_lists
from tests.system.test_cli import CommandLine, eventually

LISTS = price_lists()
EXAMPLES = [
    pytest.param(found, number, id=f"{found.name}: {example.title}")
    for found in LISTS
    for number, example in enumerate(found.examples)
    if number == 0 or len(example.events) <= MAX_BATCH_EVENTS  # A month of samples once is enough.
]
PERIODS = sorted({found.examples[0].period for found in LISTS}, key=lambda period: period.start)


@pytest.fixture(scope="module")
def stack(server_root: Path) -> Iterator[CommandLine]:
    """A shell beside a stack of its own."""
    folder = server_root / "price-lists"
    folder.mkdir()
    shell = CommandLine(folder, {"STEELYARD_HOME": str(folder / "home")})
    try:
        shell.json("up")
        yield shell
    finally:
        shell.table("down")


@pytest.fixture(scope="module")
def tenants(stack: CommandLine) -> dict[Period, CommandLine]:
    """One for each month of the examples, on a clock that shows the month's last second."""
    found = {}
    for period in PERIODS:
        clock = (period.end - timedelta(seconds=1)).isoformat()
        created = _answer(stack, "tenants", "create", f"month-{period.start:%Y-%m}", "--test-clock", clock)
        found[period] = stack.having(STEELYARD_API_KEY=created["secret"])
    return found


@pytest.fixture(scope="module")
def clients(tenants: dict[Period, CommandLine], stack: CommandLine) -> Iterator[dict[Period, SyncClient]]:
    endpoints = Endpoints.from_env(_answer(stack, "env"))
    with ExitStack() as open_clients:
        yield {
            period: open_clients.enter_context(
                SyncClient(api_key=tenant.settings["STEELYARD_API_KEY"], endpoints=endpoints, source="examples")
            )
            for period, tenant in tenants.items()
        }


@pytest.fixture(scope="module")
def plans(tenants: dict[Period, CommandLine]) -> dict[str, list[list[str]]]:
    """By folder what applying its files planned, twice: meters, card, meters, card."""
    return {found.name: _applied(tenants[found.examples[0].period], found) for found in LISTS}


@pytest.mark.parametrize("price_list", LISTS, ids=lambda found: found.name)
def test_a_folder_is_applied_once(price_list: PriceList, plans: dict[str, list[list[str]]]) -> None:
    meters, card, meters_again, card_again = plans[price_list.name]
    assert (set(meters), set(card), len(card)) == ({"create"}, {"create"}, 1)
    assert (meters_again, card_again) == (["unchanged"] * len(meters), ["unchanged"])


@pytest.mark.usefixtures("plans")
@pytest.mark.parametrize(("price_list", "number"), EXAMPLES)
def test_examples_are_charged_as_printed(price_list: PriceList, number: int, clients: dict[Period, SyncClient]) -> None:
    example, name = price_list.examples[number], f"{price_list.name}-{number}"
    client = clients[example.period]
    _subscribe(client, name, price_list.name, example.period)
    client.send([*_events(name, example)], ack=Ack.RECORDED)

    def charged() -> invoice_pb2.Invoice | None:
        preview = _preview(client, name)
        quantities = [line.quantity for line in _lines(preview)]
        return preview if quantities == [line.quantity for line in example.lines] else None

    preview = eventually(charged)
    assert _lines(preview) == example.lines
    assert Decimal(preview.total.minor_units) == example.total.invoiced * 100


@pytest.mark.usefixtures("plans")
def test_the_preview_in_the_overview_costs_what_the_list_says(tenants: dict[Period, CommandLine]) -> None:
    usage = "llm-output-tokens=15000:model=claude-opus-5,service_tier=standard"
    charges = _answer(tenants[PERIODS[0]], "ratecards", "preview", "llm-api", "-b", usage)
    assert {charge["price_id"]: charge["amount"] for charge in charges}["output"] == "0.375"


def _answer(shell: CommandLine, *arguments: str) -> Any:
    """What a command of this shell prints, as a document."""
    settings = shell.environment()
    done = CliRunner().invoke(
        app, [*arguments, "--output", "json"], env={**dict.fromkeys(os.environ.keys() - settings.keys()), **settings}
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def _applied(tenant: CommandLine, price_list: PriceList) -> list[list[str]]:
    files = (("meters", price_list.meters_file), ("ratecards", price_list.card_file)) * 2
    return [[item["plan"] for item in _answer(tenant, what, "apply", "-f", str(path))] for what, path in files]


def _subscribe(client: SyncClient, name: str, rate_card_id: str, period: Period) -> None:
    """A customer in UTC, of this name as the subscription is."""
    customer = customer_service_pb2.Customer(customer_id=name, display_name=name, time_zone="UTC")
    subscription = subscriptions.Subscription(
        subscription_id=name,
        customer_id=name,
        rate_card_id=rate_card_id,
        start_date=period.start.date().isoformat(),
        billing_anchor=subscriptions.BILLING_ANCHOR_CALENDAR,
    )

    async def work(services: Services) -> None:
        await services.customers.CreateCustomer(
            customer_service_pb2.CreateCustomerRequest(request_id=str(uuid4()), customer=customer)
        )
        await services.subscriptions.CreateSubscription(
            subscriptions.CreateSubscriptionRequest(request_id=str(uuid4()), subscription=subscription)
        )

    client.call(work)


def _events(name: str, example: WorkedExample) -> Iterator[UsageEvent]:
    for number, event in enumerate(example.events):
        yield UsageEvent(event.event_type, name, dict(event.properties), f"{name}-{number}", event.at, "examples")


def _preview(client: SyncClient, name: str) -> invoice_pb2.Invoice:
    async def work(services: Services) -> invoice_service_pb2.PreviewInvoiceResponse:
        return await services.invoices.PreviewInvoice(invoice_service_pb2.PreviewInvoiceRequest(subscription_id=name))

    return client.call(work).invoice


def _lines(invoice: invoice_pb2.Invoice) -> list[PrintedLine]:
    return [
        PrintedLine(
            line.price_id,
            Decimal(line.quantity),
            Decimal(line.exact_amount),
            Decimal(line.amount.minor_units).scaleb(-2),
        )
        for line in invoice.lines
    ]
