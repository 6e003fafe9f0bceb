"""Receipts as the log makes them, checked by the SDK alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.batch_digest import LoggedEvent, leaves_of
from services.ingest.domain.log_chain import BatchEntry, ChainHead, entry_hash
from services.ingest.domain.merkle import audit_path, root
from services.ingest.usecases.get_receipts import LogReceipt
from services.ingest.wire.log import receipt_to_pb
from steelyard import UsageEvent
from steelyard.ingest.v1 import log_service_pb2 as pb
from steelyard.receipts import ReceiptInvalid, verify

NOON = datetime(2026, 3, 10, 12, 0, 0, 123456, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


TIMES = st.timedeltas(timedelta(0), timedelta(days=106_000)).map(datetime.fromtimestamp(0, UTC).__add__)


def an_event(number: int) -> UsageEvent:
    properties: dict[str, str | int | Decimal] = {"tokens": number, "price": Decimal("0.10"), "model": 'sm"all\n'}
    return UsageEvent("llm.request", "cust-01", properties, f"e{number}", NOON + timedelta(seconds=number), "gateway")


def receipt_of(events: list[UsageEvent], index: int, tenant_id: str = "acme") -> pb.LogReceipt:
    """What the server would answer for one event of a batch."""
    sent = [event.to_pb("sdk") for event in events]
    logged = [
        LoggedEvent(
            ordinal,
            item.source,
            item.event_id,
            item.event_type,
            item.customer_id,
            item.event_time.ToNanoseconds(),
            dict(item.properties),
            {"tokens": "1"},
        )
        for ordinal, item in enumerate(sent)
    ]
    leaves, count = leaves_of(logged), len(events)
    entry = BatchEntry(
        *(tenant_id, 7, "epoch-1", 3, NOON, NOON, count, 0, (count, 0), (count, 0, 0, 0), [], 1, 2, root(leaves), [])
    )
    before = ChainHead(4, b"\x05" * 32)
    place = before.linked(entry_hash(entry.content()), NOON)
    path = audit_path(leaves, index)
    made = LogReceipt(logged[index].leaf(), index, count, path, entry.content(), before.chain_hash, place, NOON)
    return receipt_to_pb((sent[index].source, sent[index].event_id), made).receipt


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33])
def test_proves_each_event_of_a_batch(size: int) -> None:
    events = [an_event(number) for number in range(size)]

    for index, event in enumerate(events):
        verify(receipt_of(events, index), event, tenant_id="acme")


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=4), TIMES)
def test_hashes_what_the_log_hashes(event_type: str, customer: str, properties: dict[str, str], at: datetime) -> None:
    event = UsageEvent(event_type, customer, properties, "e1", at, "gateway")

    verify(receipt_of([event], 0), event)


OTHER_EVENTS = {
    "another id": an_event(3),
    "another type": UsageEvent("other", "cust-01", an_event(2).properties, "e2", an_event(2).event_time, "gateway"),
    "another customer": UsageEvent("llm.request", "x", an_event(2).properties, "e2", an_event(2).event_time, "gateway"),
    "another time": UsageEvent("llm.request", "cust-01", an_event(2).properties, "e2", NOON, "gateway"),
    "other properties": UsageEvent("llm.request", "cust-01", {}, "e2", an_event(2).event_time, "gateway"),
    "another source": UsageEvent("llm.request", "cust-01", an_event(2).properties, "e2", an_event(2).event_time, "x"),
}


@pytest.mark.parametrize("other", OTHER_EVENTS)
def test_proves_no_other_event(other: str) -> None:
    receipt = receipt_of([an_event(number) for number in range(5)], 2)

    with pytest.raises(ReceiptInvalid):
        verify(receipt, OTHER_EVENTS[other])


def test_a_source_that_the_event_does_not_name_is_not_compared() -> None:
    event = an_event(2)
    unnamed = UsageEvent(event.event_type, event.customer_id, event.properties, "e2", event.event_time)

    verify(receipt_of([an_event(1), event], 1), unnamed)


def test_is_of_one_tenant() -> None:
    with pytest.raises(ReceiptInvalid, match="tenant acme"):
        verify(receipt_of([an_event(1)], 0), an_event(1), tenant_id="bolt")


def _flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def _path(receipt: pb.LogReceipt, *hashes: bytes) -> None:
    del receipt.audit_path[:]
    receipt.audit_path.extend(hashes)


def _altered(change: Callable[[pb.LogReceipt], object]) -> pb.LogReceipt:
    receipt = receipt_of([an_event(number) for number in range(5)], 2)
    change(receipt)
    return receipt


ALTERED = {
    "measured": lambda it: it.__setattr__("leaf", it.leaf.replace(b'{"tokens":"1"}', b'{"tokens":"2"}')),
    "leaf is no list": lambda it: it.__setattr__("leaf", b"{}"),
    "leaf is no JSON": lambda it: it.__setattr__("leaf", b"["),
    "index": lambda it: it.__setattr__("leaf_index", 3),
    "index beyond": lambda it: it.__setattr__("leaf_index", 5),
    "negative index": lambda it: it.__setattr__("leaf_index", -1),
    "size": lambda it: it.__setattr__("tree_size", 4),
    "path": lambda it: _path(it, *(_flip(item) for item in it.audit_path)),
    "short path": lambda it: _path(it, *it.audit_path[:-1]),
    "long path": lambda it: _path(it, *it.audit_path, b"\x00" * 32),
    "root": lambda it: it.__setattr__("batch_entry", _flip(it.batch_entry)),
    "entry": lambda it: it.__setattr__("batch_entry", it.batch_entry.replace(b'"epoch-1"', b'"epoch-2"')),
    "form": lambda it: it.__setattr__("batch_entry", it.batch_entry.replace(b"batch.1", b"batch.2")),
    "chain before": lambda it: it.__setattr__("previous_chain_hash", b"\x06" * 32),
    "position": lambda it: it.place.__setattr__("position", 6),
    "chain": lambda it: it.place.__setattr__("chain_hash", b"\x06" * 32),
    "link time": lambda it: it.link_time.__setattr__("seconds", 1),
}


@pytest.mark.parametrize("part", ALTERED)
def test_every_part_counts(part: str) -> None:
    with pytest.raises(ReceiptInvalid):
        verify(_altered(ALTERED[part]), an_event(2))


def test_what_is_altered_was_right_before() -> None:
    verify(_altered(lambda _: None), an_event(2))
