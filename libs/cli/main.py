"""The commands, put together."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from libs.cli import (
    charges,
    customers,
    events,
    holds,
    invoices,
    log,
    meters,
    overrides,
    payments,
    ratecards,
    spool,
    subscriptions,
    tenants,
)
from libs.cli.demo.command import demo
from libs.cli.findings import findings, manifests, sources
from libs.cli.reconcile import reconcile
from libs.cli.replays import replay
from libs.cli.stack import down, env, up
from libs.cli.usage import usage


class _Commands(TyperGroup):
    """All commands; what holds for each of them."""

    def invoke(self, ctx: Any) -> Any:
        """Run one. Messages hold text only: an argument of other bytes ends as wrong usage, not as a traceback."""
        try:
            return super().invoke(ctx)
        except UnicodeEncodeError as error:
            if error.encoding != "utf-8":
                raise
            raise typer.BadParameter(f"{error.object!r} is not UTF-8 text") from error


app = typer.Typer(
    name="steelyard",
    cls=_Commands,
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
app.add_typer(spool.app, name="spool")
app.add_typer(holds.app, name="holds")
app.add_typer(log.app, name="log")
app.command("usage")(usage)
app.add_typer(findings, name="findings")
app.add_typer(manifests, name="manifests")
app.add_typer(sources, name="sources")
app.add_typer(replay, name="replay")
app.add_typer(ratecards.app, name="ratecards")
app.add_typer(overrides.app, name="overrides")
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(charges.app, name="charges")
app.add_typer(invoices.app, name="invoices")
app.add_typer(payments.app, name="payments")
app.command("reconcile")(reconcile)
