"""The commands, put together. The module of a command is imported when it is asked for: they start in half the time."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

_COMMANDS = {
    "up": "libs.cli.stack:up",
    "down": "libs.cli.stack:down",
    "env": "libs.cli.stack:env",
    "demo": "libs.cli.demo.command:demo",
    "tenants": "libs.cli.tenants:app",
    "customers": "libs.cli.customers:app",
    "meters": "libs.cli.meters:app",
    "events": "libs.cli.events:app",
    "spool": "libs.cli.spool:app",
    "holds": "libs.cli.holds:app",
    "log": "libs.cli.log:app",
    "usage": "libs.cli.usage:usage",
    "findings": "libs.cli.findings:findings",
    "manifests": "libs.cli.findings:manifests",
    "sources": "libs.cli.findings:sources",
    "replay": "libs.cli.replays:replay",
    "ratecards": "libs.cli.ratecards:app",
    "overrides": "libs.cli.overrides:app",
    "subscriptions": "libs.cli.subscriptions:app",
    "charges": "libs.cli.charges:app",
    "invoices": "libs.cli.invoices:app",
    "payments": "libs.cli.payments:app",
    "reconcile": "libs.cli.reconcile:reconcile",
}
"""Where each command is, in the order of the help."""


class _Commands(TyperGroup):
    """All commands; what holds for each of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        found = getattr(import_module(module), name)
        # Alone in a program of its own, which gives it none of the options that the whole one has.
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=cmd_name)
            return cast(TyperGroup, get_command(alone)).commands[cmd_name]
        alone.command(cmd_name)(found)
        return get_command(alone)

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


@app.callback()
def steelyard() -> None:
    """Usage-based billing: from usage events to paid, reconciled invoices."""
