"""The commands, put together."""

from __future__ import annotations

import typer

from libs.cli import customers, events, invoices, meters, payments, ratecards, subscriptions, tenants
from libs.cli.demo.command import demo
from libs.cli.reconcile import reconcile
from libs.cli.stack import down, env, up
from libs.cli.usage import usage

app = typer.Typer(
    name="steelyard",
    help="Usage-based billing: from usage events to paid, reconciled invoices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("up")(up)
app.command("down")(down)
app.command("env")(env)
app.command("demo")(demo)
app.add_typer(tenants.app, name="tenants")
app.add_typer(customers.app, name="customers")
app.add_typer(meters.app, name="meters")
app.add_typer(events.app, name="events")
app.command("usage")(usage)
app.add_typer(ratecards.app, name="ratecards")
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(invoices.app, name="invoices")
app.add_typer(payments.app, name="payments")
app.command("reconcile")(reconcile)
