"""One short run for each kind of fault: real processes, two tenants, a month that is closed and paid.

`make test-faults` has many more (docs/faults.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.driver.faults import FAULTS
from tests.faults.driver.history import Record, read
from tests.faults.driver.nats_cluster import NatsCluster
from tests.faults.driver.run import Outcome, Plan, Run
from tests.faults.driver.world import World

QUICK = ("kill-ingest", "stop", "crash", "cut-links", "disorder", "wiped-queue")
MORE = ("kill-money", "kill-postgres", "kill-nats", "double", "slow-links")


@pytest.fixture(scope="module")
def world(fault_root: Path) -> Iterator[World]:
    with World(fault_root / "one-server") as running:
        yield running


async def play(world: World, fault: str, seed: int) -> Outcome:
    outcome = await Run(world, Plan(seed=seed, fault=FAULTS[fault], batches=16, lasting_s=2.0)).play()
    assert not outcome.violations, outcome.report()
    return outcome


class TestEachKindOfFault:
    @pytest.mark.parametrize("fault", QUICK)
    async def test_leaves_everything_right(self, world: World, fault: str) -> None:
        outcome = await play(world, fault, seed=1)
        assert outcome.hits, "no fault has struck"

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", MORE)
    async def test_leaves_everything_right_too(self, world: World, fault: str) -> None:
        outcome = await play(world, fault, seed=1)
        assert outcome.hits, "no fault has struck"

    async def test_usage_is_taken_while_postgres_is_down(self, world: World) -> None:
        outcome = await play(world, "postgres-down", seed=1)
        records = read_between(outcome, "postgres_down", "postgres_up")
        answers = [record.phase for record in records if record.what == "ingest" and record.phase != "invoke"]
        assert answers.count("ok") > 5
        assert set(answers) == {"ok"}

    async def test_nothing_is_acknowledged_while_the_disk_is_full(self, world: World) -> None:
        outcome = await play(world, "disk-full", seed=2)
        during = read_between(outcome, "disk_full", "disk_free")
        # Answers that were under way when the disk became full are of before.
        late = [record for record in during if record.at > during[0].at + 0.5]
        assert [record.phase for record in late if record.what == "ingest" and record.phase == "ok"] == []


@pytest.mark.slow
class TestLostWithoutAWitness:
    async def test_a_queue_lost_with_its_acceptors_is_named(self, world: World) -> None:
        plan = Plan(seed=1, fault=FAULTS["wiped-queue-and-acceptors"], batches=16, lasting_s=2.0, month=False)
        outcome = await Run(world, plan).play()
        assert "named" not in outcome.violations, outcome.report()


@pytest.mark.slow
class TestThreeNatsServers:
    async def test_survive_the_death_of_one_and_of_two(self, fault_root: Path) -> None:
        root = fault_root / "three-servers"
        with NatsCluster(root) as cluster, World(root, cluster=cluster) as world:
            outcome = await play(world, "kill-nodes", seed=1)
        assert sum(hit.startswith("kill nats-") for hit in outcome.hits) >= 3


def read_between(outcome: Outcome, first: str, last: str) -> list[Record]:
    """The records of a history between two notes."""
    records = read(Path(outcome.history))
    marks = [index for index, record in enumerate(records) if record.what in (first, last)]
    return records[marks[0] : marks[1]]
