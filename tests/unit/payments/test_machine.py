"""Many histories over fakes, the same ones in each run."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.payments.machine import INTERESTING, PaymentsMachine
from tests.unit.payments.world import FakeWorld


class FakeMachine(PaymentsMachine):
    seen = Counter[str]()

    async def make_world(self) -> FakeWorld:
        return FakeWorld.make()


class TestEveryHistory:
    def test_captures_each_invoice_once(self) -> None:
        FakeMachine.loop = asyncio.new_event_loop()
        try:
            run_state_machine_as_test(
                FakeMachine,
                settings=settings(max_examples=250, stateful_step_count=40, deadline=None, derandomize=True),
            )
        finally:
            FakeMachine.loop.close()
        assert {case: FakeMachine.seen[case] for case in INTERESTING if FakeMachine.seen[case] < 5} == {}
