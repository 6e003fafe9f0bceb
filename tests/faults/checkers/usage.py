"""Checkers of usage: acknowledged means in the log once, every event has one fate, windows are what was sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal

from tests.faults.checkers.evidence import Evidence, Windows
from tests.faults.checkers.sent import counted, each_event, events_sent
from tests.faults.driver.history import OK, UNKNOWN, operations

_WINDOW_S = 900
_SHOWN = 5


def acknowledged(evidence: Evidence) -> list[str]:
    """Guarantee 1: what was acknowledged is in the log, exactly once, with a payload that was sent; and nothing is
    there that nobody sent, or that was refused."""
    sent = events_sent(evidence.records)
    entries = Counter((entry.tenant, entry.event_id) for entry in evidence.ingest.log)
    keys = Counter(evidence.ingest.keys)
    digests = {(entry.tenant, entry.event_id): entry.digest for entry in evidence.ingest.log}
    lost = [key for key, item in sent.items() if item.acknowledged and key not in entries]
    return [
        *_some("acknowledged and not in the log", lost),
        *_some("in the log more than once", [key for key, times in entries.items() if times > 1]),
        *_some("in the log but never sent rightly", [key for key in entries if key not in sent]),
        *_some("in the log although every call failed", [k for k in entries if k in sent and not sent[k].possible]),
        *_some(
            "in the log with a payload that was never sent",
            [key for key, digest in digests.items() if key in sent and digest not in sent[key].payloads],
        ),
        *_some("in the log without a key, or a key without log", [k for k in entries | keys if entries[k] != keys[k]]),
    ]


def verdicts(evidence: Evidence) -> list[str]:
    """Each event has one fate, and the answers say which."""
    digests = {(entry.tenant, entry.event_id): entry.digest for entry in evidence.ingest.log}
    wrong = [
        (operation.invoke.data["tenant"], event["id"], verdict)
        for operation, event, verdict in each_event(evidence.records)
        if verdict is not None and (verdict == "REJECTED") != event["refused"]
    ]
    twice, other = [], []
    for key, item in events_sent(evidence.records).items():
        told = Counter(item.verdicts)
        if sum(times for (verdict, _), times in told.items() if verdict == "RECORDED") > 1:
            twice.append(key)
        for verdict, digest in told:
            if verdict in ("RECORDED", "DUPLICATE") and digests.get(key, digest) != digest:
                other.append((*key, verdict))
            if verdict == "CONFLICT" and digests.get(key) == digest:
                other.append((*key, verdict))
    return [
        *_some("refused wrongly, or not refused", wrong),
        *_some("called recorded more than once", twice),
        *_some("verdict contradicts the log", other),
    ]


def fates(evidence: Evidence) -> list[str]:
    """The equations: accepted = recorded + duplicate + conflict + rejected, and counters = results = log.

    What the acceptors counted and the queue lost is in the equation only if ingest names the batch.
    """
    problems: list[str] = []
    log = Counter(entry.tenant for entry in evidence.ingest.log)
    results = {row["tenant_id"]: row for row in evidence.ingest.results}
    named = _events_of_missing(evidence)
    for row in evidence.ingest.counters:
        tenant = row["tenant_id"]
        told = row["recorded"] + row["duplicate"] + row["conflict"] + row["rejected"]
        if not 0 <= row["accepted"] - told <= named[tenant]:
            problems.append(
                f"{tenant}: {row['accepted']} accepted, but {row['recorded']} recorded + {row['duplicate']} duplicate"
                f" + {row['conflict']} conflict + {row['rejected']} rejected ({named[tenant]} in missing batches)"
            )
        problems += [
            f"{tenant}: {row[name]} {name} by the counters, {results[tenant][name]} by the batches"
            for name in ("recorded", "duplicate", "conflict", "rejected")
            if results[tenant][name] != row[name]
        ]
        if log[tenant] != row["recorded"]:
            problems.append(f"{tenant}: {row['recorded']} recorded, {log[tenant]} in the log")
    return problems


def windows(evidence: Evidence) -> list[str]:
    """Guarantees 2 and 3: windows in ingest and in rating are what the history adds up to."""
    sums: dict[tuple[str, str, str, int], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for (tenant, _), event in counted(evidence.records, evidence.ingest).items():
        inputs, outputs = Decimal(event["input"]), Decimal(event["output"])
        measured = {
            "llm_requests": Decimal(1),
            "llm_input_tokens": inputs,
            "llm_output_tokens": outputs,
            "llm_total_tokens": inputs + outputs,
        }
        for meter, value in measured.items():
            key = (tenant, meter, event["customer"], event["at_s"] // _WINDOW_S * _WINDOW_S)
            total, events = sums[key]
            sums[key] = (total + value, events + 1)
    return [
        *_differences("ingest's windows", evidence.ingest.windows, sums),
        *_differences("rating's windows", evidence.rating.windows, sums),
    ]


def watermark(evidence: Evidence) -> list[str]:
    """No watermark passes an event that was acknowledged before it and is not recorded, unless a hold says so."""
    acknowledged_at: dict[tuple[str, str], float] = {}
    for operation, event, verdict in each_event(evidence.records):
        if verdict not in (None, "REJECTED") and operation.end is not None:
            key = (operation.invoke.data["tenant"], event["id"])
            acknowledged_at[key] = min(acknowledged_at.get(key, operation.end.wall), operation.end.wall)
    recorded: set[tuple[str, str]] = set()
    problems: list[str] = []
    for record in evidence.records:
        if record.what != "watermark":
            continue
        recorded.update((tenant, event_id) for tenant, event_id in record.data["recorded"])
        at, held = record.data["watermark"], record.data["held"]
        passed = [
            key for key, since in acknowledged_at.items() if since < at and key not in recorded and key[0] not in held
        ]
        problems += _some(f"acknowledged before the watermark {at:.3f}, and not recorded when it was seen", passed)
    return problems[:_SHOWN]


def _events_of_missing(evidence: Evidence) -> Counter[str]:
    """How many accepted events, at most, lie in the batches that ingest says were lost.

    Which batch a call went into is known from its answer; without one, or through a spool, it may have been any.
    """
    missing = set(evidence.ingest.missing)
    tenants = {tenant for tenant, _, _ in missing}
    found: Counter[str] = Counter()
    for operation in operations(evidence.records, "ingest"):
        tenant, end = operation.invoke.data["tenant"], operation.end
        receipt = end.data["receipt"] if end is not None and operation.phase == OK else None
        if end is not None and receipt is not None:
            if (tenant, *receipt) in missing:
                found[tenant] += sum(verdict != "REJECTED" for verdict in end.data["verdicts"])
        elif tenant in tenants and operation.phase in (OK, UNKNOWN):
            found[tenant] += len(operation.invoke.data["events"])
    return found


def _differences(name: str, stored: Windows, expected: Windows) -> list[str]:
    keys = [key for key in stored.keys() | expected.keys() if stored.get(key) != expected.get(key)]
    shown = [f"{key}: {stored.get(key)} instead of {expected.get(key)}" for key in sorted(keys)[:_SHOWN]]
    return [f"{name} differ in {len(keys)} places: {'; '.join(shown)}"] if keys else []


def _some(problem: str, keys: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"{len(keys)} {problem}: {sorted(keys)[:_SHOWN]}"] if keys else []
