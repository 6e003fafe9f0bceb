"""steelyard up, down, env: the whole system on this machine."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
import time
from typing import Annotated

import typer

from libs.cli.connection import endpoints as resolve
from libs.cli.output import CONSOLE, ERRORS, EXIT_FAILED, Format, Output, fail, print_json, table
from libs.embedded.errors import EmbeddedError
from libs.embedded.stack import DEFAULT_ROOT, Stack, running_endpoints, stop_running
from steelyard import Endpoints

_START_TIMEOUT_S = 120
_LOG = DEFAULT_ROOT / "up.log"


def up(
    foreground: Annotated[bool, typer.Option(help="stay here until Ctrl-C instead of going to the background")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Start PostgreSQL, NATS and the four services, keep them running, and print where they answer.

    Test clocks are allowed, reflection is on, and data stays in `.steelyard`.
    """
    if foreground:
        _hold(output)
        return
    if running_endpoints() is None:
        _start_in_background()
    _print_endpoints(output)


def down() -> None:
    """Stop what `steelyard up` started. The data stays."""
    try:
        stopped = stop_running()
    except EmbeddedError as error:
        fail(error)
    CONSOLE.print("stopped" if stopped else "nothing was running")


def env() -> None:
    """Print the settings of what `steelyard up` started for a shell: eval "$(steelyard env)"."""
    if running_endpoints() is None:
        fail(EmbeddedError("nothing is running: `steelyard up` starts it"))
    for name, value in _settings().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _hold(output: Format) -> None:
    settings = {"STEELYARD_TEST_CLOCKS": "1", "STEELYARD_REFLECTION": "1"}
    try:
        with Stack(settings=settings, report=lambda text: ERRORS.print(text, highlight=False)):
            _print_endpoints(output)
            threading.Event().wait()
    except KeyboardInterrupt:
        CONSOLE.print("stopped")
    except EmbeddedError as error:
        fail(error)


def _start_in_background() -> None:
    DEFAULT_ROOT.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "libs.cli", "up", "--foreground"]
    with _LOG.open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + _START_TIMEOUT_S
    with ERRORS.status("starting"):
        while running_endpoints() is None:
            if child.poll() is not None or time.monotonic() > deadline:
                ERRORS.print(_LOG.read_text()[-3000:], highlight=False)
                raise typer.Exit(EXIT_FAILED)
            time.sleep(0.1)


def _print_endpoints(output: Format) -> None:
    if output is Format.JSON:
        print_json(_settings())
    else:
        table(("SETTING", "VALUE"), _settings().items())
        CONSOLE.print("`steelyard` commands in this folder find them by themselves, other programs need them:")
        CONSOLE.print('eval "$(steelyard env)". `steelyard down` stops everything.', highlight=False)


def _settings() -> dict[str, str]:
    targets, running = resolve(), running_endpoints()
    values = {f"STEELYARD_{name.upper()}_TARGET": str(getattr(targets, name)) for name in Endpoints.__slots__}
    return values | ({"STEELYARD_OPERATOR_KEY": running.operator_key, "NATS_URL": running.nats_url} if running else {})
