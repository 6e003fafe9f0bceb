"""steelyard up, down, env: the whole system on this machine."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import not_running
from libs.cli.home import home, running
from libs.cli.output import ERRORS, Format, Output, fail, note, print_json, say, table
from libs.embedded.errors import EmbeddedError
from libs.embedded.stack import Stack, stop_running
from libs.embedded.state import Endpoints

_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60


def up(
    foreground: Annotated[bool, typer.Option(help="stay here until Ctrl-C instead of going to the background")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Start PostgreSQL, NATS and the four services, keep them running, and print where they answer.

    Test clocks are allowed, reflection is on, and data stays in `.steelyard` of this project, or in STEELYARD_HOME.
    """
    try:
        if foreground:
            _hold(output)
        else:
            _print_settings(running() or _start_in_background(), output)
    except (EmbeddedError, OSError) as error:
        fail(error)


def down(output: Output = Format.TABLE) -> None:
    """Stop what `steelyard up` started. The data stays."""
    try:
        stopped = home().exists() and stop_running(home())
    except (EmbeddedError, OSError) as error:
        fail(error)
    if output is Format.JSON:
        print_json({"stopped": stopped})
    else:
        say("stopped" if stopped else "nothing was running")


def env(output: Output = Format.TABLE) -> None:
    """Print the settings of what `steelyard up` started for a shell: eval "$(steelyard env)"."""
    where = running()
    if where is None:
        fail(not_running())
    if output is Format.JSON:
        print_json(_settings(where))
        return
    for name, value in _settings(where).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _hold(output: Format) -> None:
    home().mkdir(parents=True, exist_ok=True)
    settings = {"STEELYARD_TEST_CLOCKS": "1", "STEELYARD_REFLECTION": "1"}
    try:
        with Stack(home(), settings=settings, report=note) as stack:
            _print_settings(stack.endpoints(), output)
            threading.Event().wait()
    except KeyboardInterrupt:
        note("stopped")


def _start_in_background() -> Endpoints:
    home().mkdir(parents=True, exist_ok=True)
    log = home() / "up.log"
    command = [sys.executable, "-m", "libs.cli", "up", "--foreground"]
    with log.open("wb") as file:
        # Its stdout tells the operator's key, which belongs in no log.
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        with ERRORS.status("starting"):
            return _wait_until_running(child, log)
    except BaseException:
        # Whoever pressed Ctrl-C, or was told that it did not start, must not find it running later.
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_TIMEOUT_S)
        raise


def _wait_until_running(child: subprocess.Popen[bytes], log: Path) -> Endpoints:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (where := running()) is None:
        if child.poll() is not None or time.monotonic() > deadline:
            raise EmbeddedError(f"it did not start; the end of {log}:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
    return where


def _print_settings(where: Endpoints, output: Format) -> None:
    if output is Format.JSON:
        print_json(_settings(where))
        return
    table(("SETTING", "VALUE"), _settings(where).items())
    say("`steelyard` commands find them by themselves, other programs need them:")
    say('eval "$(steelyard env)". `steelyard down` stops everything.')


def _settings(where: Endpoints) -> dict[str, str]:
    """What the SDK and the commands read.

    It is what runs, whatever the environment says: an earlier `env` left the ports of an earlier start there. NATS_URL
    is not among it: `up` would take that for a server to use instead of its own.
    """
    return {
        "STEELYARD_INGEST_TARGET": where.ingest,
        "STEELYARD_QUERY_TARGET": where.ingest_query,
        "STEELYARD_RATING_TARGET": where.rating,
        "STEELYARD_BILLING_TARGET": where.billing,
        "STEELYARD_PAYMENTS_TARGET": where.payments,
        "STEELYARD_OPERATOR_KEY": where.operator_key,
    }
