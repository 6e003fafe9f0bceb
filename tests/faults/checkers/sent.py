"""The history of usage, by event: what was sent under each id, and what was said about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.checkers.evidence import IngestState
from tests.faults.driver.history import FAIL, OK, Operation, Record, operations

Key = tuple[str, str]
"""(tenant, event id)"""


@dataclass
class Sent:
    """One id: its payloads by digest, the verdicts as (verdict, digest), and whether any call that carried it (as an
    event that is right) was acknowledged, or may have had an effect."""

    payloads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    verdicts: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: bool = False
    possible: bool = False


def events_sent(records: Sequence[Record]) -> dict[Key, Sent]:
    """Collect what was sent. Events that the door had to refuse are left out unless the id was sent rightly, too."""
    sent: dict[Key, Sent] = {}
    for operation, event, verdict in each_event(records):
        if event["refused"]:
            continue
        item = sent.setdefault((operation.invoke.data["tenant"], event["id"]), Sent())
        item.payloads[event["digest"]] = event
        item.possible |= operation.phase != FAIL
        if verdict is not None:
            item.verdicts.append((verdict, event["digest"]))
            item.acknowledged |= verdict != "REJECTED"
    return sent


def each_event(records: Sequence[Record]) -> Iterator[tuple[Operation, Mapping[str, Any], str | None]]:
    """Every event of every call, with its verdict if there was an answer."""
    for operation in operations(records, "ingest"):
        answer = operation.end.data["verdicts"] if operation.end and operation.phase == OK else None
        for index, event in enumerate(operation.invoke.data["events"]):
            yield operation, event, answer[index] if answer else None


def counted(records: Sequence[Record], state: IngestState) -> dict[Key, Mapping[str, Any]]:
    """The payloads that count: those of the history under the ids and digests of the log."""
    sent = events_sent(records)
    found: dict[Key, Mapping[str, Any]] = {}
    for entry in state.log:
        key = (entry.tenant, entry.event_id)
        if key in sent and entry.digest in sent[key].payloads:
            found[key] = sent[key].payloads[entry.digest]
    return found
