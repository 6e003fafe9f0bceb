"""One run: two new tenants, a month of usage under faults, and what the checkers say."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from steelyard import Endpoints
from tests.faults.checkers.all import violations
from tests.faults.checkers.evidence import Evidence
from tests.faults.driver.faults import Act, Fault, Strike
from tests.faults.driver.history import History
from tests.faults.driver.observing import WatermarkObserver, gather_evidence, wait_until_at_rest
from tests.faults.driver.producer import Producer
from tests.faults.driver.repair import lost_batches, unnamed_losses
from tests.faults.driver.spooled import SpooledProducer
from tests.faults.driver.tenant_session import Stuck, TenantSession
from tests.faults.driver.workload import Batch, batches
from tests.faults.driver.world import World

_NOTICED_WITHIN_S = 3.0
"""The keeper looks four times a second."""


@dataclass(frozen=True)
class Plan:
    """What a run is: its seed, its fault, how much usage over which time, and whether the month is closed and paid."""

    seed: int
    fault: Fault
    batches: int = 40
    lasting_s: float = 4.0
    month: bool = True
    settle_first: bool = True
    """Whether usage has come to rest before the month is closed; if not, closing has to wait for it by itself."""
    tenants: int = 2
    quarters: int = 24
    recorded_share: float = 0.25
    repeated_share: float = 0.2
    """Of the workload: see batches()."""
    patience_s: float = 120.0
    """How long the month may take."""
    converge_within_s: float = 60.0
    """How long everything may take to come to rest after the last fault."""


@dataclass
class Outcome:
    """What became of a run: what is wrong by checker, what was done to it, and what happened on the way."""

    plan: Plan
    violations: dict[str, list[str]]
    hits: list[str]
    happened: Counter[str]
    converged_in_s: float
    took_s: float
    history: str
    evidence: Evidence = field(repr=False)

    def report(self) -> str:
        """In words, for an assertion."""
        lines = [f"seed {self.plan.seed}, fault {self.plan.fault.name}: {self.hits}; {dict(self.happened)}"]
        lines += [f"  history {self.history}"]
        lines += [f"  {name}: {problem}" for name, problems in self.violations.items() for problem in problems]
        return "\n".join(lines)


class Run:
    """Plays a plan in a world, which it leaves healthy."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world, self._plan = world, plan
        # A tenant's name, too, so that a database shows which run a row is of.
        self._label = f"s{plan.seed}-{plan.fault.name.replace('_', '-')}-{time.time_ns() % 10**10}"
        self._unnamed: list[str] = []
        self._spooled: list[SpooledProducer] = []
        self._month_began = False

    async def play(self) -> Outcome:
        """Play it to its end and judge it.

        :raises AssertionError: if the fault itself did not come about
        """
        began_s, notes, restarts = time.monotonic(), self._world.notes(), sum(self._world.restarts.values())
        with History(self._world.root / f"{self._label}.jsonl") as history:
            strike = Strike(self._world, random.Random(self._plan.seed), history)
            sessions = await self._set_up(history)
            tenants = [session.tenant_id for session in sessions]
            observer = asyncio.create_task(WatermarkObserver(self._world, tenants, history).run())
            try:
                stuck, converged_in_s = await self._play(sessions, strike)
            finally:
                observer.cancel()
                await asyncio.gather(observer, return_exceptions=True)
                for spooled in self._spooled:
                    await spooled.close()
                await asyncio.to_thread(self._world.calm)
            evidence = await gather_evidence(
                self._world, sessions, history.path, pending=stuck, month=self._month_began
            )
            evidence = replace(evidence, unnamed=self._unnamed)
            for session in sessions:
                await session.close()
        happened = self._world.notes() - notes
        happened["restarts"] = sum(self._world.restarts.values()) - restarts
        return Outcome(
            self._plan,
            violations(evidence),
            strike.hit,
            happened,
            converged_in_s,
            time.monotonic() - began_s,
            str(history.path),
            evidence,
        )

    async def _set_up(self, history: History) -> list[TenantSession]:
        world = self._world
        endpoints = Endpoints(
            ingest=world.client_target("ingest-accept"),
            query=world.client_target("ingest-query"),
            rating=world.client_target("rating"),
            billing=world.client_target("billing"),
            payments=world.client_target("payments"),
        )
        key = world.stack.endpoints().operator_key
        sessions = [
            TenantSession(f"{self._label}-{number}", endpoints, key, history, patience_s=self._plan.patience_s)
            for number in range(self._plan.tenants)
        ]
        await asyncio.gather(*(session.set_up() for session in sessions))
        if self._plan.fault.repair:
            self._spooled = [
                SpooledProducer(
                    session.tenant_id,
                    session.api_key,
                    endpoints,
                    world.root / f"{session.tenant_id}.spool",
                    batches(self._plan.seed, f"{number}:spooled", self._plan.batches // 2),
                    history,
                )
                for number, session in enumerate(sessions)
            ]
        return sessions

    async def _play(self, sessions: Sequence[TenantSession], strike: Strike) -> tuple[list[str], float]:
        """Return what had not come to rest in time after the last fault, and how long it took to."""
        fault, tenants = self._plan.fault, [session.tenant_id for session in sessions]
        try:
            await _both(self._send(sessions, strike.history), fault.usage, strike)
            since_s = time.monotonic()
            if fault.repair:
                await self._repair(sessions, strike.history)
            if self._plan.settle_first and (pending := await self._at_rest(tenants)):
                return pending, self._plan.converge_within_s
            converged_in_s = time.monotonic() - since_s
            if self._plan.month:
                self._month_began = True
                await _both(_close(sessions), fault.month, strike)
                since_s = time.monotonic()
                if pending := await self._at_rest(tenants):
                    return pending, self._plan.converge_within_s
                converged_in_s = max(converged_in_s, time.monotonic() - since_s)
        except Stuck as error:
            return [str(error)], self._plan.converge_within_s
        return [], converged_in_s

    async def _at_rest(self, tenants: Sequence[str]) -> list[str]:
        return await wait_until_at_rest(self._world, tenants, timeout_s=self._plan.converge_within_s)

    async def _send(self, sessions: Sequence[TenantSession], history: History) -> None:
        async with asyncio.TaskGroup() as sending:
            for number, session in enumerate(sessions):
                calls = self._calls(number)
                sending.create_task(self._producer(session, history).send(calls, lasting_s=self._plan.lasting_s))
            for spooled in self._spooled:
                sending.create_task(spooled.send(lasting_s=self._plan.lasting_s))

    def _calls(self, tenant: int) -> list[Batch]:
        plan = self._plan
        return batches(
            plan.seed,
            str(tenant),
            plan.batches,
            quarters=plan.quarters,
            recorded_share=plan.recorded_share,
            repeated_share=plan.repeated_share,
        )

    def _producer(self, session: TenantSession, history: History) -> Producer:
        target = self._world.client_target("ingest-accept")
        return Producer(session.tenant_id, target, session.api_key, history, self._plan.seed)

    async def _repair(self, sessions: Sequence[TenantSession], history: History) -> None:
        """Spools send again what is not recorded; for the producer without one the driver does. Then the holds are
        lifted, by hand."""
        await asyncio.sleep(_NOTICED_WITHIN_S)
        await asyncio.gather(*(spooled.drain() for spooled in self._spooled))
        for number, session in enumerate(sessions):
            calls = self._calls(number)
            lost = await lost_batches(session, calls, history.path)
            self._unnamed += await unnamed_losses(self._world, session, lost, history.path)
            history.note("repair", tenant=session.tenant_id, batches=len(lost))
            await self._producer(session, history).send(lost, lasting_s=0)
        await asyncio.sleep(_NOTICED_WITHIN_S)
        for session in sessions:
            await session.lift_holds()
        history.note("queue_repaired")


async def _close(sessions: Sequence[TenantSession]) -> None:
    async def close(session: TenantSession) -> None:
        await session.advance_past_the_month()
        await session.wait_until_issued()
        await session.collect()

    await asyncio.gather(*map(close, sessions))


async def _both(work: Awaitable[None], act: Act | None, strike: Strike) -> None:
    """Let the fault strike while the work goes on; what it broke is healed when this returns."""
    striking = asyncio.ensure_future(act(strike)) if act else None
    try:
        await work
        if striking:
            await striking
    finally:
        if striking:
            striking.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await striking
        strike.history.note("faults_over")
        await asyncio.to_thread(strike.world.calm)
        await asyncio.to_thread(strike.world.wait_until_up)
