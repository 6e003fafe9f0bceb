"""Corrections of recorded events: entries of their own, at most one per event, that say why it counts no more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson

from libs.errors import Violation
from libs.ids import check_text
from services.ingest.domain.door import MAX_TEXT
from services.ingest.domain.event_key import EventKey

MAX_CORRECTIONS = 10_000
"""In one request."""
MAX_REASON = 500
MAX_ACTOR = 128
_MAX_VIOLATIONS = 100
"""More would tell nobody more."""


class CorrectionKind(StrEnum):
    """Stored: never changes."""

    VOID = "void"
    REPLACE = "replace"


class CorrectionOutcome(StrEnum):
    """What became of one event of a request. Stored: never changes."""

    APPLIED = "applied"
    WAITING = "waiting"
    ALREADY = "already"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Correction:
    """Why an event counts no more; `replacement` is what counts in its place if it was superseded.

    `reason` and `actor` are the caller's words, `api_key_id` is empty if another service called.
    """

    kind: CorrectionKind
    replacement: EventKey | None
    reason: str
    actor: str
    api_key_id: str
    corrected_at: datetime


@dataclass(frozen=True, slots=True)
class CorrectionResult:
    """What became of one event of a request; `problem` says why it was REFUSED."""

    outcome: CorrectionOutcome
    replacement: EventKey | None = None
    problem: Violation | None = None


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """What is known of an id: the hash of the recorded content (None: not recorded), and how it was corrected."""

    payload_hash: bytes | None
    kind: CorrectionKind | None
    replacement: EventKey | None

    @property
    def is_missing(self) -> bool:
        """Whether nothing is known; somebody may be recording it at this moment."""
        return self.payload_hash is None and self.kind is None


KnownEvents = Mapping[EventKey, KnownEvent]
NOTHING_KNOWN = KnownEvent(None, None, None)
_DONE = CorrectionResult(CorrectionOutcome.APPLIED)
_ALREADY = CorrectionResult(CorrectionOutcome.ALREADY)
_WAITING = CorrectionResult(CorrectionOutcome.WAITING)


def decide_voids(keys: Sequence[EventKey], known: KnownEvents) -> list[CorrectionResult]:
    """Say what becomes of each event, given what is known of all of them."""
    results, first_seen = [], set[EventKey]()
    for key in keys:
        event = known[key]
        if event.kind is CorrectionKind.REPLACE:
            results.append(_superseded("event_id", event.replacement))
        elif event.kind is CorrectionKind.VOID or key in first_seen:
            results.append(_ALREADY)
        else:
            results.append(_WAITING if event.payload_hash is None else _DONE)
        first_seen.add(key)
    return results


@dataclass(frozen=True, slots=True)
class Proposal:
    """An event to be recorded in the place of another; `problem` is why the event may not be recorded at all, and then
    the hash is empty."""

    original: EventKey
    replacement: EventKey
    payload_hash: bytes
    problem: Violation | None


def decide_replacements(proposals: Sequence[Proposal], known: KnownEvents) -> list[CorrectionResult]:
    """Say what becomes of each one, given what is known of originals and replacements before the request.

    Nothing has to be known of replacements with a problem: their ids may be such as cannot be looked up.
    """
    results: list[CorrectionResult] = []
    replaced: dict[EventKey, Proposal] = {}
    taken: set[EventKey] = set()
    for proposal in proposals:
        earlier = replaced.get(proposal.original)
        if earlier is None:
            result = _decide_replacement(proposal, known, taken)
        elif (earlier.replacement, earlier.payload_hash) == (proposal.replacement, proposal.payload_hash):
            result = CorrectionResult(CorrectionOutcome.ALREADY, earlier.replacement)
        else:
            result = _superseded("original", earlier.replacement)
        if result.outcome is CorrectionOutcome.APPLIED:
            replaced[proposal.original] = proposal
            taken.add(proposal.replacement)
        results.append(result)
    return results


def _decide_replacement(proposal: Proposal, known: KnownEvents, taken: set[EventKey]) -> CorrectionResult:
    original = known[proposal.original]
    event = known.get(proposal.replacement, NOTHING_KNOWN)
    if original.kind is CorrectionKind.VOID:
        return refused("original", "VOIDED", "was voided: send a new event")
    if original.kind is CorrectionKind.REPLACE:
        if (original.replacement, event.payload_hash) == (proposal.replacement, proposal.payload_hash):
            return CorrectionResult(CorrectionOutcome.ALREADY, proposal.replacement)
        return _superseded("original", original.replacement)
    if original.payload_hash is None:
        return refused("original", "UNKNOWN_EVENT", "is not recorded")
    if proposal.problem is not None:
        return CorrectionResult(CorrectionOutcome.REFUSED, problem=proposal.problem)
    if event.payload_hash is not None or proposal.replacement in taken:
        return ID_TAKEN
    if event.kind is not None:
        return refused("event.event_id", "EVENT_ID_VOIDED", "was voided in advance")
    return CorrectionResult(CorrectionOutcome.APPLIED, proposal.replacement)


def refused(field: str, reason: str, description: str) -> CorrectionResult:
    """The result of what was not done."""
    return CorrectionResult(CorrectionOutcome.REFUSED, problem=Violation(field, reason, description))


ID_TAKEN = refused("event.event_id", "EVENT_ID_TAKEN", "is the id of another event")


def _superseded(field: str, replacement: EventKey | None) -> CorrectionResult:
    problem = Violation(field, "SUPERSEDED", "was replaced; correct what was recorded in its place")
    return CorrectionResult(CorrectionOutcome.REFUSED, replacement, problem)


def derived_event_id(original: EventKey) -> str:
    """The id of a replacement whose caller chose none. Callers rely on it being the same again: never changes."""
    digest = hashlib.blake2b(orjson.dumps(original), digest_size=16).hexdigest()
    return f"replacement-{digest}"


def words_violations(reason: str, actor: str) -> list[Violation]:
    """Return what is wrong with what the caller says about a correction."""
    checks = [check_text(reason, "reason", MAX_REASON), check_text(actor, "actor", MAX_ACTOR)]
    return [violation for violation in checks if violation is not None]


def key_violations(keys: Sequence[EventKey], field: str) -> list[Violation]:
    """Return what is wrong with the events that a request names; `field` is a template with the index of each."""
    if not 1 <= len(keys) <= MAX_CORRECTIONS:
        return [Violation(field.split("[")[0], "WRONG_NUMBER", f"must be 1 to {MAX_CORRECTIONS}, has {len(keys)}")]
    found: list[Violation] = []
    for index, (source, event_id) in enumerate(keys):
        found += filter(None, [check_text(source, f"{field.format(index)}.source", MAX_TEXT)])
        found += filter(None, [check_text(event_id, f"{field.format(index)}.event_id", MAX_TEXT)])
    return found[:_MAX_VIOLATIONS]
