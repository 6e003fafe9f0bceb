"""Entries and their chain: every part of them counts, and the forms stay as they are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.ingest.domain.batch_digest import LoggedEvent, batch_digest, leaf_content
from services.ingest.domain.log_chain import BatchEntry, ChainHead, HourEntry, entry_hash, hour_of

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
REFUSED = (-1, "rejected", "gateway", "r", "llm.request", "cust-01", "event_time", "REQUIRED", "must be set")
BATCH = BatchEntry(
    tenant_id="acme",
    batch_id=7,
    acceptor_epoch="epoch-1",
    batch_number=3,
    received_at=NOON,
    accepted_at=NOON,
    event_count=2,
    rejected_count=1,
    totals=(5, 1),
    fates=(1, 1, 0, 0),
    duplicate_ordinals=[1],
    oldest_ns=9,
    digest_version=2,
    digest=b"\x01" * 32,
    exceptions=[REFUSED],
)
HOUR = HourEntry("acme", NOON, 1, "first", 2, 1, b"\x02" * 32, NOON)
SECOND = timedelta(microseconds=1)
EVENT = LoggedEvent(0, "gateway", "a", "llm.request", "cust-01", 9, {"b": "1", "a": "2"}, {"z": "1", "a": "2"})


BATCH_CHANGES: dict[str, Any] = {
    "tenant_id": "bolt",
    "batch_id": 8,
    "acceptor_epoch": "epoch-2",
    "batch_number": 4,
    "received_at": NOON + SECOND,
    "accepted_at": NOON + SECOND,
    "event_count": 3,
    "rejected_count": 2,
    "totals": (5, None),
    "fates": (2, 0, 0, 0),
    "duplicate_ordinals": [0],
    "oldest_ns": None,
    "digest_version": 1,
    "digest": b"\x02" * 32,
    "exceptions": [],
}


@pytest.mark.parametrize("name", BATCH_CHANGES)
def test_every_column_of_a_batch_is_in_its_entry(name: str) -> None:
    changed = replace(BATCH, **{name: BATCH_CHANGES[name]})

    assert changed.content() != BATCH.content()


HOUR_CHANGES: dict[str, Any] = {
    "tenant_id": "bolt",
    "hour_start": NOON + SECOND,
    "version": 2,
    "cause": "late",
    "event_count": 3,
    "window_count": 3,
    "windows_digest": b"\x03" * 32,
    "sealed_at": NOON + SECOND,
}


@pytest.mark.parametrize("name", HOUR_CHANGES)
def test_every_column_of_a_seal_is_in_its_entry(name: str) -> None:
    changed = replace(HOUR, **{name: HOUR_CHANGES[name]})

    assert changed.content() != HOUR.content()


EVENT_CHANGES: dict[str, Any] = {
    "ordinal": 1,
    "source": "other",
    "event_id": "b",
    "event_type": "other",
    "customer_id": "cust-02",
    "time_ns": 10,
    "properties": {"b": "1", "a": "3"},
    "measured": {"z": "1", "a": "3"},
}


@pytest.mark.parametrize("name", EVENT_CHANGES)
def test_every_column_of_an_event_is_in_its_leaf(name: str) -> None:
    changed = replace(EVENT, **{name: EVENT_CHANGES[name]})

    assert changed.leaf() != EVENT.leaf()


def test_the_order_of_keys_does_not_count() -> None:
    other = replace(EVENT, properties={"a": "2", "b": "1"}, measured={"a": "2", "z": "1"})

    assert other.leaf() == EVENT.leaf()


def test_the_forms_never_change() -> None:
    """Customers keep hashes of them."""
    assert EVENT.leaf() == leaf_content(0, "gateway", "a", EVENT.payload_hash, '{"a":"2","z":"1"}')
    assert EVENT.leaf() == b'[0,"gateway","a","%s",{"a":"2","z":"1"}]' % EVENT.payload_hash.hex().encode()
    assert BATCH.content() == (
        b'["steelyard.batch.1","acme",7,"epoch-1",3,1773144000000000,1773144000000000,2,1,[5,1],[1,1,0,0],[1],9,"%s",2,'
        b'"%s"]'
    ) % (
        hashlib.sha256(b'[[-1,"rejected","gateway","r","llm.request","cust-01","event_time","REQUIRED","must be set"]]')
        .hexdigest()
        .encode(),
        b"01" * 32,
    )
    assert HOUR.content() == (
        b'["steelyard.hour.1","acme",1773144000000000,1,"first",2,1,"%s",1773144000000000]' % (b"02" * 32)
    )


def test_a_link_covers_what_was_before_its_place_its_time_and_its_entry() -> None:
    start, entry = ChainHead.start("acme"), entry_hash(b"")
    linked = start.linked(entry, NOON)

    others = [
        ChainHead.start("bolt").linked(entry, NOON),
        ChainHead(1, start.chain_hash).linked(entry, NOON),
        start.linked(entry_hash(b"other"), NOON),
        start.linked(entry, NOON + SECOND),
    ]
    assert linked.position == 1
    assert len({linked.chain_hash, *(other.chain_hash for other in others)}) == 5


def test_an_unknown_form_of_digest_is_none() -> None:
    assert batch_digest(3, [EVENT]) is None


def test_hours_are_those_of_utc() -> None:
    zone = datetime.fromisoformat("2026-03-10T12:59:00+05:30")

    assert hour_of(zone) == datetime(2026, 3, 10, 7, tzinfo=UTC)
