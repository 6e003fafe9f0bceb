"""Shorter waits after a crash, so that a run takes seconds: `SHORT_WAITS=1`.

How long a crashed process keeps what it had taken (the acknowledgement wait of consumers, leases and claims) is 30 s in
production; a run with faults would mostly wait for that. The order of things stays the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from libs.messaging.consumer import PullConsumer
from tests.faults.inside.seams import module

_SHORT_S = 3.0
_CLAIMS = (
    ("libs.outbox.fact_relay", "_LEASE"),
    ("services.payments.usecases.collect_payments", "CLAIM"),
    ("services.billing.usecases.close_periods", "CLAIM"),
)


def install(environment: Mapping[str, str]) -> None:
    """Shorten what the environment asks for."""
    if environment.get("SHORT_WAITS") != "1":
        return
    initialise = PullConsumer.__init__

    def impatient(self: PullConsumer, *arguments: Any, **named: Any) -> None:
        initialise(self, *arguments, **{"ack_wait_s": _SHORT_S, **named})

    PullConsumer.__init__ = impatient  # type: ignore[method-assign]
    service = sys.argv[1]
    for owner, name in _CLAIMS:
        if owner.startswith(("libs.", f"services.{service}.")):
            claim = module(owner)
            if not isinstance(getattr(claim, name), timedelta):
                raise TypeError(f"{owner}.{name} is no duration any more")
            setattr(claim, name, timedelta(seconds=_SHORT_S))
