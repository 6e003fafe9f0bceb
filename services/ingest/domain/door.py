"""What an event must look like to pass the door, whatever meters exist."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from libs.errors import Violation
from libs.ids import check_text
from services.ingest.domain.usage_batch import MAX_SEQUENCE, NANOSECONDS, UsageColumns, storable

DEFAULT_PAST_LIMIT = timedelta(days=34)
DEFAULT_FUTURE_LIMIT = timedelta(hours=1)
MAX_TEXT = 128
MAX_PROPERTIES = 32
MAX_KEY = 64
MAX_VALUE = 256


@dataclass(frozen=True, slots=True)
class DoorPolicy:
    """A tenant's rules. `known_customers` is None unless the tenant refuses events of unknown customers."""

    past_limit: timedelta = DEFAULT_PAST_LIMIT
    future_limit: timedelta = DEFAULT_FUTURE_LIMIT
    known_customers: Container[str] | None = None


def door_problems(events: UsageColumns, policy: DoorPolicy, tenant_now: datetime) -> dict[int, Violation]:
    """Return the first problem of each event that may not pass, by index.

    `tenant_now` is the instant on the tenant's clock, to which the limits of event times relate.
    """
    problems: dict[int, Violation] = {}
    _check_texts(events.event_ids, "event_id", problems)
    _check_texts(events.sources, "source", problems)
    _check_texts(events.event_types, "event_type", problems)
    _check_texts(events.customer_ids, "customer_id", problems)
    _check_customers(events.customer_ids, policy.known_customers, problems)
    _check_times(events.times_ns, policy, tenant_now, problems)
    _check_properties(events.properties, problems)
    if events.sequences:
        _check_sequences(events, problems)
    return problems


def time_problems(events: UsageColumns) -> dict[int, Violation]:
    """Return the problem of each event whose time is no Timestamp, by index."""
    problem = Violation("event_time", "NOT_AN_INSTANT", "must have nanos from 0 to 999,999,999")
    return dict.fromkeys(events.no_instants, problem)


def to_ns(at: datetime) -> int:
    """Nanoseconds since 1970 of an aware instant, exactly."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * NANOSECONDS + since.microseconds * 1_000


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _check_texts(texts: list[str], name: str, problems: dict[int, Violation]) -> None:
    distinct = set(texts)
    if _are_plain(distinct, MAX_TEXT):
        return
    violations = {text: check_text(text, name, MAX_TEXT) for text in distinct}
    for index, text in enumerate(texts):
        violation = violations[text]
        if violation is not None:
            problems.setdefault(index, violation)


def _are_plain(texts: Collection[str], max_length: int) -> bool:
    """Whether `check_text` surely finds nothing in any of them; asking it for each one costs far more."""
    lengths = set(map(len, texts))
    if not lengths:
        return True
    together = "".join(texts)
    return min(lengths) > 0 and max(lengths) <= max_length and together.isprintable() and " " not in together


def _check_customers(texts: list[str], known: Container[str] | None, problems: dict[int, Violation]) -> None:
    if known is None:
        return
    for index, text in enumerate(texts):
        if text not in known:
            problems.setdefault(index, Violation("customer_id", "UNKNOWN_CUSTOMER", "there is no such customer"))


def _check_times(times_ns: list[int], policy: DoorPolicy, now: datetime, problems: dict[int, Violation]) -> None:
    earliest, latest = to_ns(now - policy.past_limit), to_ns(now + policy.future_limit)
    if times_ns and max(earliest, 1) <= min(times_ns) and max(times_ns) <= latest:
        return
    for index, time_ns in enumerate(times_ns):
        if earliest <= time_ns <= latest and time_ns:
            continue
        if not time_ns:
            violation = Violation("event_time", "REQUIRED", "must be set")
        elif time_ns < earliest:
            violation = Violation("event_time", "TOO_OLD", f"must be at most {policy.past_limit} back")
        else:
            violation = Violation("event_time", "IN_FUTURE", f"must be at most {policy.future_limit} ahead")
        problems.setdefault(index, violation)


def _check_properties(rows: list[dict[str, str]], problems: dict[int, Violation]) -> None:
    if _all_good(rows):
        return
    good: set[str] = set()
    for index, properties in enumerate(rows):
        if len(properties) > MAX_PROPERTIES:
            description = f"must be at most {MAX_PROPERTIES}, has {len(properties)}"
            problems.setdefault(index, Violation("properties", "TOO_MANY", description))
            continue
        for key, value in properties.items():
            if key in good and len(value) <= MAX_VALUE and "\x00" not in value:
                continue
            violation = _property_violation(key, value)
            if violation is None:
                good.add(key)
            else:
                problems.setdefault(index, violation)
                break


def _check_sequences(events: UsageColumns, problems: dict[int, Violation]) -> None:
    for index, (sequence, epoch) in enumerate(zip(events.sequences, events.sequence_epochs, strict=True)):
        if not 0 <= sequence <= MAX_SEQUENCE:
            violation: Violation | None = Violation("sequence", "OUT_OF_RANGE", f"must be 0 to {MAX_SEQUENCE}")
        else:
            violation = check_text(epoch, "sequence_epoch", MAX_TEXT) if epoch else None
        if violation is not None:
            problems.setdefault(index, violation)


def _all_good(rows: list[dict[str, str]]) -> bool:
    """Whether surely no row has a problem: what is nearly always so, found without looking at each row in Python."""
    if max(map(len, rows), default=0) > MAX_PROPERTIES:
        return False
    values = list(chain.from_iterable(map(dict.values, rows)))
    if max(map(len, values), default=0) > MAX_VALUE or "\x00" in "".join(values):
        return False
    return _are_plain(set(chain.from_iterable(rows)), MAX_KEY)


def _property_violation(key: str, value: str) -> Violation | None:
    field = f"properties.{storable(key, MAX_KEY)}"
    violation = check_text(key, field, MAX_KEY)
    if violation is not None:
        return violation
    if len(value) > MAX_VALUE:
        return Violation(field, "TOO_LONG", f"must be at most {MAX_VALUE} characters, has {len(value)}")
    if "\x00" in value:
        return Violation(field, "CONTROL_CHARACTER", "must not contain U+0000")
    return None
