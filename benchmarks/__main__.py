"""`python -m benchmarks`: run the benchmarks, print a table, write a file for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import accepted, calls, freshness, invoices, keys, pricing, queries, rebuild, recorded, soak, spool
from benchmarks.machine import machine_facts
from benchmarks.report import Report, table_rows, write_json
from benchmarks.sender import BenchmarkError
from benchmarks.system import say
from libs.cli.output import CONSOLE, fail, table
from libs.embedded.errors import EmbeddedError
from steelyard import SteelyardError

BENCHMARKS: dict[str, Callable[[float], Report]] = {
    "accepted": accepted.run,
    "recorded": recorded.run_backlog,
    "recorded-live": recorded.run_live_backlog,
    "sustained": recorded.run_sustained,
    "sustained-live": recorded.run_live_sustained,
    "sustained-live-100-tenants": recorded.run_live_sustained_many,
    "calls": calls.run,
    "keys-uuid7": keys.run_uuid7,
    "keys-random": keys.run_random,
    "freshness": freshness.run,
    "freshness-live": freshness.run_live,
    "freshness-live-20000": freshness.run_live_fast,
    "soak": soak.run_soak,
    "catch-up": soak.run_catch_up,
    "invoices": invoices.run,
    "spool": spool.run,
    "query-month": queries.run_month,
    "unique": queries.run_unique,
    "percentile": queries.run_percentile,
    "rebuild": rebuild.run,
    "pricing": pricing.run,
}
_RESULTS = Path(__file__).parent / "results"


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(BENCHMARKS)}; may be repeated")] = None,
    scale: Annotated[float, typer.Option(min=0.001, help="how much of the workload; less is quicker")] = 1.0,
    results: Annotated[Path, typer.Option(help="where to write a file per benchmark")] = _RESULTS,
) -> None:
    """Measure what the system does per second on this machine. Nothing else should run meanwhile."""
    names = only or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        raise typer.BadParameter(f"--only: no benchmark {', '.join(unknown)}")
    machine = machine_facts()
    reports = []
    for name in names:
        say(f"--- {name}")
        try:
            report = BENCHMARKS[name](scale)
        except (BenchmarkError, EmbeddedError, SteelyardError) as error:
            fail(error)
        write_json(report, machine, results)
        reports.append(report)
    for report in reports:
        facts = ", ".join(f"{key} {value}" for key, value in report.workload.items())
        CONSOLE.print(f"{report.benchmark}: {facts}", highlight=False)
    table(("BENCHMARK", "FIGURE", "VALUE#", "FLOOR#", "RATIO#"), table_rows(reports))


if __name__ == "__main__":
    typer.run(main)
