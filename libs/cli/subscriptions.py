"""steelyard subscriptions ..."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.forecast import forecast
from libs.cli.output import Columns, Format, Output, instant, show
from steelyard import Client
from steelyard.billing.v1 import subscription_service_pb2 as pb

app = typer.Typer(help="Subscriptions: who is billed by which rate card.", no_args_is_help=True)
app.command("forecast")(forecast)

COLUMNS: Columns = {
    "SUBSCRIPTION": lambda item: item.subscription_id,
    "CUSTOMER": lambda item: item.customer_id,
    "RATE CARD": lambda item: item.rate_card_id,
    "CURRENCY": lambda item: item.currency,
    "CURRENT PERIOD": lambda item: f"{instant(item.current_period.start)} to {instant(item.current_period.end)}",
    "ENDS": lambda item: instant(item.end_time),
}


class Anchor(Enum):
    """What `--anchor` takes."""

    ANNIVERSARY = "anniversary"
    CALENDAR = "calendar"


@app.command("create")
def create(
    customer: str,
    rate_card: str,
    start: Annotated[str, typer.Option(help="first local date, YYYY-MM-DD; default: today")] = "",
    anchor: Annotated[Anchor, typer.Option(help="months from the start's day, or calendar months")] = Anchor.CALENDAR,
    subscription_id: Annotated[str, typer.Option("--id", help="default: made by the server")] = "",
    currency: Annotated[str, typer.Option(help="one of the card's, for good; default: its first")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Bill CUSTOMER monthly by RATE_CARD."""
    subscription = pb.Subscription(
        subscription_id=subscription_id,
        customer_id=customer,
        rate_card_id=rate_card,
        start_date=start,
        billing_anchor=pb.BillingAnchor.Value(f"BILLING_ANCHOR_{anchor.name}"),
        currency=currency,
    )

    async def work(client: Client) -> pb.CreateSubscriptionResponse:
        return await client.services.subscriptions.CreateSubscription(
            pb.CreateSubscriptionRequest(request_id=request_id(), subscription=subscription)
        )

    show([as_tenant(work).subscription], COLUMNS, output)


@app.command("list")
def list_subscriptions(
    customer: Annotated[str, typer.Option(help="only of this customer")] = "", output: Output = Format.TABLE
) -> None:
    """List subscriptions."""

    async def work(client: Client) -> list[pb.Subscription]:
        subscriptions: list[pb.Subscription] = []
        token = ""
        while True:
            page = await client.services.subscriptions.ListSubscriptions(
                pb.ListSubscriptionsRequest(customer_id=customer, page_token=token)
            )
            subscriptions.extend(page.subscriptions)
            token = page.next_page_token
            if not token:
                return subscriptions

    show(as_tenant(work), COLUMNS, output)


@app.command("show")
def show_subscription(subscription: str, output: Output = Format.TABLE) -> None:
    """Show one subscription."""

    async def work(client: Client) -> pb.GetSubscriptionResponse:
        return await client.services.subscriptions.GetSubscription(
            pb.GetSubscriptionRequest(subscription_id=subscription)
        )

    show([as_tenant(work).subscription], COLUMNS, output)


@app.command("cancel")
def cancel(
    subscription: str,
    last_date: Annotated[
        str, typer.Option(help="the last date that is billed, YYYY-MM-DD; cuts the current billing period after it")
    ] = "",
    output: Output = Format.TABLE,
) -> None:
    """End a subscription with its current billing period, or in the middle of it."""

    async def work(client: Client) -> pb.CancelSubscriptionResponse:
        return await client.services.subscriptions.CancelSubscription(
            pb.CancelSubscriptionRequest(request_id=request_id(), subscription_id=subscription, last_date=last_date)
        )

    show([as_tenant(work).subscription], COLUMNS, output)


@app.command("change-card")
def change_card(
    subscription: str,
    rate_card: str,
    first_date: Annotated[
        str,
        typer.Option(help="the first date that is billed by it, YYYY-MM-DD; splits the current billing period there"),
    ] = "",
    output: Output = Format.TABLE,
) -> None:
    """Bill a subscription by another rate card: from the next billing period on, or from a date of the current one."""

    async def work(client: Client) -> pb.ChangeRateCardResponse:
        return await client.services.subscriptions.ChangeRateCard(
            pb.ChangeRateCardRequest(
                request_id=request_id(), subscription_id=subscription, rate_card_id=rate_card, first_date=first_date
            )
        )

    show([as_tenant(work).subscription], COLUMNS, output)
