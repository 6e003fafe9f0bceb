"""A checker counts only once it has caught what it is for: each planted bug is caught by the checker that is named.

Every bug is planted into one real process of a running stack, in the smallest run that shows it. The same run without
the bug passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.faults.driver.faults import Fault, Strike, until_crashed
from tests.faults.driver.run import Outcome, Plan, Run
from tests.faults.driver.world import World
from tests.faults.inside.planted_bugs import BUGS
from tests.faults.inside.switches import Setting


@dataclass(frozen=True)
class Trigger:
    """What brings a bug to light: a crash point of its process, disorder in some processes, and which part of a month
    has to be played."""

    crash_at: str = ""
    chaos: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    month: bool = False
    settle_first: bool = True
    quarters: int = 24
    recorded_share: float = 0.0
    repeated_share: float = 0.2
    after_s: float = 0.0
    """When it begins: rating fetches the windows of new billing periods, which would hide what went wrong before."""
    lasting_s: float = 0.0
    """How long the disorder lasts at least, beyond the usage if that is shorter."""


@dataclass(frozen=True)
class Planted:
    """A bug, the process that has it, what brings it to light, and the checker that has to catch it."""

    bug: str
    process: str
    trigger: Trigger
    caught_by: str
    is_slow: bool = False
    """Whether the run has to wait in vain for something, or another bug that the same checker catches is quicker."""


NOTHING, MONTH = Trigger(), Trigger(month=True)
TWICE = {"duplicate": 0.9}
LATE = {"hold_back": 0.5, "hold_back_s": 1.0}
VERY_LATE = {"hold_back": 0.5, "hold_back_s": 3.0}
BEFORE_RECORDED = Trigger("recorder/before_commit:2", repeated_share=0)
BEFORE_STORED = Trigger("grpc/before_publish:3", repeated_share=0)
PLANTED = [
    Planted("ack_before_commit", "ingest-record", BEFORE_RECORDED, "acknowledged", is_slow=True),
    Planted("answer_before_stored", "ingest-accept", BEFORE_STORED, "acknowledged"),
    Planted("recorded_told_too_soon", "ingest-accept", Trigger(recorded_share=0.6), "verdicts"),
    Planted("no_batch_row", "ingest-record", Trigger(chaos={"ingest-record": TWICE}), "fates"),
    Planted(
        "sequence_as_id", "ingest-record", Trigger(chaos={"ingest-accept": {"republish": 0.5}}), "fates", is_slow=True
    ),
    Planted("duplicates_counted", "ingest-record", NOTHING, "windows"),
    Planted("watermark_from_clock", "ingest-record", Trigger(chaos={"ingest-record": VERY_LATE}), "watermark"),
    Planted(
        "mark_cleared_too_early",
        "ingest-record",
        Trigger("window relay/before_publish:1", quarters=300, after_s=0.8),
        "windows",
        is_slow=True,
    ),
    Planted("delta_instead_of_state", "rating", Trigger(chaos={"rating": TWICE}, lasting_s=2.0), "windows"),
    Planted(
        "stale_state", "rating", Trigger(chaos={"rating": LATE}, quarters=8, lasting_s=3.0), "windows", is_slow=True
    ),
    Planted("rounding_up", "billing", MONTH, "invoices"),
    Planted(
        "closes_before_watermark",
        "billing",
        Trigger(chaos={"ingest-record": VERY_LATE}, month=True, settle_first=False),
        "invoices",
    ),
    Planted("cursor_outbox", "billing", Trigger("fact relay/before_publish:1", month=True), "payments", is_slow=True),
    Planted(
        "inbox_before_effect",
        "payments",
        Trigger("invoice facts/before_commit:1", month=True),
        "payments",
        is_slow=True,
    ),
    Planted("new_key_on_retry", "payments", MONTH, "payments", is_slow=True),
    Planted("timeout_is_a_decline", "payments", MONTH, "payments", is_slow=True),
    Planted("capture_posted_short", "payments", MONTH, "ledger"),
]


@pytest.fixture(scope="module")
def world(fault_root: Path) -> Iterator[World]:
    with World(fault_root) as running:
        yield running


SEEDS = (7, 8, 9)
"""A seed does not fix how processes interleave: a bug may have three runs to show itself, a clean run gets one."""


async def play(world: World, process: str, trigger: Trigger, bug: str = "", seed: int = SEEDS[0]) -> Outcome:
    """Play the smallest run with a trigger, with or without a bug."""
    settings = {name: Setting(chaos=chaos) for name, chaos in trigger.chaos.items()}
    settings[process] = Setting(trigger.crash_at, trigger.chaos.get(process, {}), bug)

    async def plant(strike: Strike) -> None:
        for name, setting in settings.items():
            world.set(name, setting)

    async def plant_and_crash(strike: Strike) -> None:
        await asyncio.sleep(trigger.after_s)
        await plant(strike)
        await asyncio.sleep(trigger.lasting_s)
        if trigger.crash_at:
            await until_crashed(strike, process, trigger.crash_at)

    acts = (plant, plant_and_crash) if trigger.month else (plant_and_crash, None)
    fault = Fault(bug or "clean", *acts)
    plan = Plan(
        seed=seed,
        fault=fault,
        batches=20,
        lasting_s=1.5,
        month=trigger.month,
        settle_first=trigger.settle_first,
        quarters=trigger.quarters,
        recorded_share=trigger.recorded_share,
        repeated_share=trigger.repeated_share,
        tenants=1,
        patience_s=10,
        converge_within_s=6,
    )
    return await Run(world, plan).play()


def cases(chosen: Iterable[Planted]) -> list[ParameterSet]:
    return [pytest.param(p, marks=[pytest.mark.slow] if p.is_slow else [], id=p.bug) for p in chosen]


class TestPlantedBugs:
    @pytest.mark.parametrize("planted", cases(PLANTED))
    async def test_is_caught(self, world: World, planted: Planted) -> None:
        for seed in SEEDS:
            outcome = await play(world, planted.process, planted.trigger, planted.bug, seed)
            if planted.caught_by in outcome.violations:
                return
        pytest.fail(outcome.report())

    @pytest.mark.slow
    @pytest.mark.parametrize("planted", cases({repr((p.trigger, p.process)): p for p in reversed(PLANTED)}.values()))
    async def test_is_not_seen_where_there_is_none(self, world: World, planted: Planted) -> None:
        outcome = await play(world, planted.process, planted.trigger)
        assert not outcome.violations, outcome.report()

    def test_are_all_planted(self) -> None:
        assert {planted.bug for planted in PLANTED} == set(BUGS)
