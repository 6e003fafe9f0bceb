"""The use cases over fakes."""

from __future__ import annotations

import pytest

from tests.unit.payments import behaviour, card_limits, settling
from tests.unit.payments.world import FakeWorld


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld.make()


class TestCollecting(behaviour.Collecting):
    pass


class TestUnknownOutcomes(behaviour.UnknownOutcomes):
    pass


class TestCancelling(behaviour.Cancelling):
    pass


class TestRecording(behaviour.Recording):
    pass


class TestMethods(behaviour.Methods):
    pass


class TestDue(behaviour.Due):
    pass


class TestReconciling(behaviour.Reconciling):
    pass


class TestCardLimits(card_limits.CardLimits):
    pass


class TestSettlingByHand(settling.SettlingByHand):
    pass


class TestContradictions(settling.Contradictions):
    pass
