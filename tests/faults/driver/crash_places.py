"""Which crash points a run reaches: by process, and by part of it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.inside import crash_points as at

_COMMITS = (at.BEFORE_COMMIT, at.AFTER_COMMIT)
_PUBLISHES = (at.BEFORE_PUBLISH, at.AFTER_PUBLISH_BEFORE_CONFIRMED, at.AFTER_PUBLISH)
_ACKS = (at.AFTER_COMMIT_BEFORE_ACK, at.AFTER_ACK)

CRASHES: dict[str, dict[str, Sequence[str]]] = {
    "ingest-accept": {"grpc": _PUBLISHES},
    "ingest-record": {
        "recorder": (*_COMMITS, *_ACKS),
        "keeper": (*_COMMITS, *_PUBLISHES),
        "window relay": (*_COMMITS, *_PUBLISHES),
        "watermark forwarder": (*_COMMITS, *_PUBLISHES),
    },
    "rating": {
        "usage consumer": (*_COMMITS, *_ACKS),
        "rater": _COMMITS,
        "charge relay": (*_COMMITS, *_PUBLISHES),
        "watermark loop": _COMMITS,
        "watermark forwarder": (*_COMMITS, *_PUBLISHES),
    },
    "billing": {
        "charges": (*_COMMITS, *_ACKS),
        "payments": (*_COMMITS, *_ACKS),
        "closing": _COMMITS,
        "fact relay": (*_COMMITS, *_PUBLISHES),
        "billing period relay": _COMMITS,
        "watermark": _COMMITS,
    },
    "payments": {
        "invoice facts": (*_COMMITS, *_ACKS),
        "collection": _COMMITS,
        "fact relay": (*_COMMITS, *_PUBLISHES),
    },
}
"""Crash points by process and part, as far as a run reaches them."""

IN_THE_MONTH_ONLY = {
    ("billing", "payments"),
    ("billing", "closing"),
    ("billing", "fact relay"),
    ("payments", "invoice facts"),
    ("payments", "collection"),
    ("payments", "fact relay"),
}
"""Parts that have nothing to do before a month is closed."""
