"""The use cases over PostgreSQL."""

from __future__ import annotations

from tests.unit.payments import behaviour, card_limits, settling


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
