"""Runs a service exactly as `python -m services.<service>` would, with faults built in.

    CRASH_AT=recorder/after_commit_before_ack:2 python -m tests.faults.launch ingest --role record

The production code has no hooks for this: the seams are patched here, before the service's own main is run.
`CRASH_AT` (see crash_points.py), `CHAOS` (chaos.py) and `PLANT_BUG` (planted_bugs.py) say what is to happen; the file
that `FAULT_CONTROL` names replaces them while the process runs (switches.py).
"""

from __future__ import annotations

import os
import runpy
import sys

from tests.faults.inside import chaos, crash_points, notes, planted_bugs, waits
from tests.faults.inside.switches import Switches


def main() -> None:
    """`python -m tests.faults.launch SERVICE [arguments of the service]`"""
    service, *arguments = sys.argv[1:]
    switches = Switches.from_env(os.environ)
    points = crash_points.CrashPoints(switches)
    notes.install(switches, service)
    waits.install(os.environ)
    planted_bugs.install(switches, service)
    chaos.install(switches)
    # The last to be installed is the first to be met: a crash point lies around everything else.
    crash_points.install(points)
    sys.argv = [f"services.{service}", *arguments]
    runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
