"""The use cases over PostgreSQL."""

from __future__ import annotations

from tests.unit.payments import behaviour


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
