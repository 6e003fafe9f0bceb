"""Many seeded runs in one stack, and what they amount to: `python -m tests.faults` (see docs/faults.md)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.driver.faults import FAULTS
from tests.faults.driver.run import Outcome, Plan, Run
from tests.faults.driver.world import World
from tests.faults.inside import notes

ROTATION = (
    "kill-ingest",
    "crash",
    "disorder",
    "kill-money",
    "crash",
    "cut-links",
    "kill-nats",
    "crash",
    "stop",
    "double",
    "kill-postgres",
    "crash",
    "slow-links",
    "disk-full",
    "crash",
    "double",
    "postgres-down",
    "wiped-queue",
)
"""The faults of a campaign in one stack, over and over; each run has another seed."""

FLOORS: Mapping[str, int] = {
    notes.REDELIVERED: 700,
    notes.PUBLISH_UNANSWERED: 40,
    notes.PUBLISH_DUPLICATE: 500,
    notes.KNOWN_BATCH: 150,
    notes.GATEWAY_UNKNOWN: 200,
    notes.HELD_BACK: 150,
    notes.PUBLISHED_AGAIN: 100,
    "restarts": 120,
    "calls_unknown": 200,
    "crash points": 40,
}
"""For a hundred runs: a campaign in which the interesting cases never came up proves nothing. For fewer in proportion,
and always at least one."""


@dataclass
class Totals:
    """What a campaign amounts to so far; adds up over several."""

    runs: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    took_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take in a run."""
        self.runs[outcome.plan.fault.name] += 1
        self.happened.update(outcome.happened)
        self.hits.update(_kind(hit) for hit in outcome.hits)
        calls = Counter(record.phase for record in outcome.evidence.records if record.what == "ingest")
        self.happened["calls_unknown"] += calls["unknown"]
        self.events["calls"] += calls["invoke"]
        self.events["recorded"] += len(outcome.evidence.ingest.log)
        if outcome.evidence.billing and outcome.evidence.payments:
            self.events["invoices"] += len(outcome.evidence.billing.invoices)
            self.events["gateway calls"] += len(outcome.evidence.payments.gateway)
        self.slowest_s = max(self.slowest_s, outcome.converged_in_s)
        self.took_s += outcome.took_s
        if outcome.violations:
            self.failures.append(outcome.report())

    @property
    def crash_points(self) -> int:
        """How many different crash points were reached."""
        return sum(hit.startswith("crash ") for hit in self.hits)

    def below_the_floor(self, floors: Mapping[str, int]) -> list[str]:
        """Which interesting cases did not come up often enough."""
        seen = self.happened | Counter({"crash points": self.crash_points})
        share = sum(self.runs.values()) / 100
        return [
            f"{name}: {seen[name]} instead of at least {max(1, int(floor * share))}"
            for name, floor in floors.items()
            if seen[name] < max(1, int(floor * share))
        ]

    def table(self) -> str:
        """In words and numbers."""
        lines = [f"{sum(self.runs.values())} runs in {self.took_s:.0f} s, {len(self.failures)} with violations"]
        lines += [f"slowest return to rest after the last fault: {self.slowest_s:.1f} s", "", "runs by fault"]
        lines += [f"  {name:32} {count:7}" for name, count in sorted(self.runs.items())]
        for title, counts in (("what was judged", self.events), ("what happened", self.happened)):
            lines += ["", title, *(f"  {name:32} {counts[name]:7}" for name in sorted(counts))]
        lines += ["", f"what was done ({self.crash_points} different crash points)"]
        lines += [f"  {name:60} {count:5}" for name, count in sorted(self.hits.items())]
        return "\n".join(lines)

    def to_json(self) -> str:
        """What `merged` reads."""
        counters = {name: dict(getattr(self, name)) for name in ("runs", "happened", "hits", "events")}
        rest = {"failures": self.failures, "slowest_s": self.slowest_s, "took_s": self.took_s}
        return json.dumps(counters | rest, indent=1)


def merged(texts: Sequence[str]) -> Totals:
    """The totals of several campaigns, from their JSON."""
    total = Totals()
    for text in texts:
        data = json.loads(text)
        for name in ("runs", "happened", "hits", "events"):
            getattr(total, name).update(data[name])
        total.failures += data["failures"]
        total.slowest_s = max(total.slowest_s, data["slowest_s"])
        total.took_s += data["took_s"]
    return total


async def campaign(
    world: World,
    faults: Sequence[str],
    seeds: Sequence[int],
    *,
    until_s: float,
    totals: Totals,
    after_run: Callable[[], None],
) -> None:
    """Run one fault per seed, in rotation, until the time is over; print a line for each."""
    for seed in seeds:
        if time.monotonic() > until_s:
            return
        name = faults[seed % len(faults)]
        try:
            outcome = await Run(world, Plan(seed=seed, fault=FAULTS[name])).play()
        except Exception as error:  # A run that cannot be judged is a failure, and the next one goes on.
            totals.runs[name] += 1
            totals.failures.append(f"seed {seed}, fault {name}: {error!r}")
            print(f"seed {seed:4} {name:24} NOT JUDGED {error!r}"[:300], flush=True)
            await asyncio.to_thread(world.calm)
            after_run()
            continue
        totals.add(outcome)
        after_run()
        verdict = f"VIOLATES {sorted(outcome.violations)}" if outcome.violations else "ok"
        rest = f"{outcome.took_s:5.1f} s, at rest after {outcome.converged_in_s:4.1f} s"
        print(f"seed {seed:4} {name:24} {rest}  {verdict}  {', '.join(outcome.hits)}"[:300], flush=True)
        if not outcome.violations:
            os.unlink(outcome.history)  # Those of runs that went wrong stay.


def _kind(hit: str) -> str:
    """A crash point without its count."""
    return hit.rpartition(":")[0] if hit.startswith("crash ") else hit
