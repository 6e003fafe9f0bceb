"""Runs with faults, one after another, and a table of what happened: `python -m tests.faults --help`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from libs.embedded.machine import temporary_root
from tests.faults.campaign import FLOORS, ROTATION, Totals, campaign, merged
from tests.faults.driver.faults import FAULTS
from tests.faults.driver.nats_cluster import NatsCluster
from tests.faults.driver.world import World

CLUSTER_FAULTS = ("kill-nodes",)


def main() -> None:
    """Exit with 1 if any run violates anything, or if the interesting cases did not come up."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=108, help="how many runs with one NATS server")
    parser.add_argument("--cluster-runs", type=int, default=8, help="how many runs with three")
    parser.add_argument("--long-runs", type=int, default=2, help="how many with the waits of production")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; the next run has the next one")
    parser.add_argument("--minutes", type=float, default=180.0, help="begin no run after so long")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="only this fault")
    parser.add_argument("--totals", type=Path, help="write the totals to this file, for --merge")
    parser.add_argument("--merge", type=Path, nargs="+", help="run nothing; add up totals of earlier calls")
    arguments = parser.parse_args()
    totals = merged([file.read_text() for file in arguments.merge]) if arguments.merge else _run(arguments)
    print(f"\n{totals.table()}\n")
    for failure in totals.failures:
        print(failure)
    below = [] if arguments.fault or arguments.totals else totals.below_the_floor(FLOORS)
    for case in below:
        print(f"below the floor: {case}")
    sys.exit(1 if totals.failures or below else 0)


def _run(arguments: argparse.Namespace) -> Totals:
    totals, until_s = Totals(), time.monotonic() + arguments.minutes * 60
    seed, rotation = arguments.seed, (arguments.fault,) if arguments.fault else ROTATION

    def keep() -> None:
        if arguments.totals:  # After each run: what has been judged is not lost with this process.
            arguments.totals.write_text(totals.to_json())

    for count, faults, in_cluster, short_waits in (
        (arguments.runs, rotation, False, True),
        (arguments.cluster_runs, CLUSTER_FAULTS, True, True),
        # As in production: what a crashed process holds stays held for 30 s.
        (arguments.long_runs, ("postgres-down-a-minute", "kill-ingest"), False, False),
    ):
        if count:
            seeds = range(seed, seed + count)
            _in_a_world(faults, seeds, until_s, totals, keep, in_cluster=in_cluster, short_waits=short_waits)
            seed += count
    return totals


def _in_a_world(
    faults: tuple[str, ...],
    seeds: range,
    until_s: float,
    totals: Totals,
    keep: Callable[[], None],
    *,
    in_cluster: bool,
    short_waits: bool,
) -> None:
    root = temporary_root()
    failed_before = len(totals.failures)
    with ExitStack() as resources:
        cluster = resources.enter_context(NatsCluster(root)) if in_cluster else None
        world = resources.enter_context(World(root, cluster=cluster, short_waits=short_waits))
        asyncio.run(campaign(world, faults, seeds, until_s=until_s, totals=totals, after_run=keep))
    if len(totals.failures) == failed_before:
        shutil.rmtree(root)
    else:
        print(f"histories, logs and data of what went wrong are in {root}")


if __name__ == "__main__":
    main()
