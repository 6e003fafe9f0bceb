"""steelyard demo"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from libs.cli.demo.report import as_json, print_outcome
from libs.cli.demo.scenario import DemoError, Outcome, Scenario
from libs.cli.demo.workload import Workload, from_trace, generated
from libs.cli.home import home
from libs.cli.output import CONSOLE, ERRORS, EXIT_NO, fail
from libs.cli.reconcile import all_ok
from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import data_root
from libs.embedded.stack import Stack
from libs.embedded.state import Endpoints as StackEndpoints
from libs.telemetry import setup
from steelyard import Endpoints, SteelyardError

_TENANT = "demo"
_SAMPLER = "parentbased_always_on"


def demo(
    trace: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="replay a CSV: TIMESTAMP,ContextTokens,GeneratedTokens"),
    ] = None,
    customers: Annotated[int, typer.Option(min=2, max=100, help="how many customers")] = 20,
    events: Annotated[int, typer.Option(min=100, help="how many events to generate")] = 100_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the result to this file")] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave everything running until Ctrl-C, and keep the data")
    ] = False,
    seed: Annotated[int, typer.Option(help="another seed, another month")] = 1,
) -> None:
    """Run the main job on this machine: a month of LLM usage becomes paid invoices."""
    try:
        workload = (
            from_trace(trace, customers=customers, seed=seed)
            if trace
            else generated(customers=customers, events=events, seed=seed)
        )
        outcome = _run(workload, seed=seed, keep=keep, json_file=json_file)
    except (DemoError, EmbeddedError, SteelyardError, ValueError) as error:
        fail(error)
    if not all_ok(outcome.checks) or not outcome.ledger.balanced:
        raise typer.Exit(EXIT_NO)


def _run(workload: Workload, *, seed: int, keep: bool, json_file: Path | None) -> Outcome:
    # It shows a trace, also if nobody collects it.
    telemetry = setup("steelyard-demo", "demo", environment={"OTEL_TRACES_SAMPLER": _SAMPLER, **os.environ})
    began_s = time.monotonic()
    root = data_root(home() / "demo")
    if root.exists():
        shutil.rmtree(root)
    settings = {"STEELYARD_TEST_CLOCKS": "1", "STEELYARD_REFLECTION": "1"}
    try:
        with Stack(home() / "demo", settings=settings, report=_say) as stack:
            started_s = time.monotonic() - began_s
            outcome = _play(workload, stack.endpoints(), seed)
            outcome.stages_s = {"start servers and services": started_s, **outcome.stages_s}
            print_outcome(outcome)
            if json_file:
                json_file.write_text(json.dumps(as_json(outcome), indent=2) + "\n")
            if keep:
                _hold(stack.endpoints(), outcome.api_key)
    finally:
        telemetry.shutdown()
    if not keep:
        shutil.rmtree(root)
    return outcome


def _play(workload: Workload, where: StackEndpoints, seed: int) -> Outcome:
    endpoints = Endpoints(where.ingest, where.ingest_query, where.rating, where.billing, where.payments)
    columns = (TextColumn("sending usage"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=ERRORS, disable=not ERRORS.is_terminal, transient=True) as progress:
        task = progress.add_task("send", total=workload.sent)
        scenario = Scenario(
            workload,
            endpoints=endpoints,
            operator_key=where.operator_key,
            tenant_id=_TENANT,
            seed=seed,
            report=_say,
            progress=lambda count: progress.advance(task, count),
        )
        return asyncio.run(scenario.run())


def _say(text: str) -> None:
    ERRORS.print(f"[dim]{text} ...[/]", highlight=False)


def _hold(where: StackEndpoints, api_key: str) -> None:
    CONSOLE.print("\nStill running until Ctrl-C. In another shell:")
    for name, value in {
        "STEELYARD_INGEST_TARGET": where.ingest,
        "STEELYARD_QUERY_TARGET": where.ingest_query,
        "STEELYARD_RATING_TARGET": where.rating,
        "STEELYARD_BILLING_TARGET": where.billing,
        "STEELYARD_PAYMENTS_TARGET": where.payments,
        "STEELYARD_OPERATOR_KEY": where.operator_key,
        "STEELYARD_API_KEY": api_key,
    }.items():
        typer.echo(f"export {name}={value}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        CONSOLE.print("stopping")
