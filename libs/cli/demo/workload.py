"""What the demo sends: a month of LLM usage, and everything that goes wrong on the way.

Every event has a fixed id, so that the same arguments always send the same events. Resent events, conflicts and
malformed events must not change a bill.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from steelyard import UsageEvent

EVENT_TYPE = "llm.request"
SOURCE = "demo"
_RESENT_SHARE = Decimal("0.03")
_CONFLICTS = 7


@dataclass(frozen=True, slots=True)
class Workload:
    """Events by what has to become of them; all are of `start` <= event_time < `end`, but for the malformed ones."""

    start: datetime
    end: datetime
    customers: tuple[str, ...]
    originals: tuple[UsageEvent, ...]
    resent: tuple[UsageEvent, ...]
    conflicts: tuple[UsageEvent, ...]
    malformed: tuple[UsageEvent, ...]

    @property
    def clock(self) -> datetime:
        """Where the tenant's test clock stands while events are sent: one second before the period's end."""
        return self.end - timedelta(seconds=1)

    @property
    def sent(self) -> int:
        """How many events are sent in all."""
        return len(self.originals) + len(self.resent) + len(self.conflicts) + len(self.malformed)

    def first_wave(self, seed: int) -> list[UsageEvent]:
        """Everything but the conflicts, shuffled; conflicts are sent once their originals are recorded."""
        wave = [*self.originals, *self.resent, *self.malformed]
        random.Random(seed).shuffle(wave)  # noqa: S311 - a repeatable order, not a secret
        return wave


def generated(*, customers: int, events: int, seed: int) -> Workload:
    """Make `events` events over January 2026 for customers of very different sizes."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable workload, not a secret
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    names = _names(customers)
    weights = [1 / (rank + 1) for rank in range(customers)]
    seconds = int((end - start).total_seconds())
    originals = [
        _request(
            f"gen-{index}",
            customer,
            start + timedelta(seconds=rng.randrange(seconds), microseconds=rng.randrange(1_000_000)),
            input_tokens=1 + int(rng.lognormvariate(6.4, 1.1)),
            output_tokens=1 + int(rng.lognormvariate(4.6, 1.0)),
        )
        for index, customer in enumerate(rng.choices(names, weights, k=events))
    ]
    return _with_trouble(start, end, names, originals, rng)


def from_trace(path: Path, *, customers: int, seed: int) -> Workload:
    """Replay a CSV with the columns TIMESTAMP (naive UTC, up to 7 decimals), ContextTokens and GeneratedTokens.

    Row i is event `trace-i` of customer `cust-(i modulo customers)`; the period is the UTC month of the first row.

    :raises ValueError: naming the line, if the file is not of that form or a row lies outside of the month
    """
    names = _names(customers)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        expected = {"TIMESTAMP", "ContextTokens", "GeneratedTokens"}
        if not expected <= set(reader.fieldnames or ()):
            raise ValueError(f"{path}: the header must have {', '.join(sorted(expected))}")
        originals = []
        for index, row in enumerate(reader):
            try:
                originals.append(
                    _request(
                        f"trace-{index}",
                        names[index % customers],
                        _naive_utc(row["TIMESTAMP"]),
                        input_tokens=int(row["ContextTokens"]),
                        output_tokens=int(row["GeneratedTokens"]),
                    )
                )
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}:{reader.line_num}: {error}") from error
    if not originals:
        raise ValueError(f"{path}: no rows")
    first = originals[0].event_time
    start = datetime(first.year, first.month, 1, tzinfo=UTC)
    end = datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=UTC)
    outside = next((event for event in originals if not start <= event.event_time < end), None)
    if outside is not None:
        raise ValueError(f"{path}: {outside.event_id} at {outside.event_time} is not in the month of the first row")
    return _with_trouble(start, end, names, originals, random.Random(seed))  # noqa: S311 - repeatable, not a secret


def _names(customers: int) -> tuple[str, ...]:
    return tuple(f"cust-{index:02d}" for index in range(customers))


def _naive_utc(text: str) -> datetime:
    whole, _, fraction = text.strip().partition(".")
    return datetime.fromisoformat(whole).replace(microsecond=int(fraction[:6].ljust(6, "0")), tzinfo=UTC)


def _request(event_id: str, customer: str, at: datetime, *, input_tokens: int, output_tokens: int) -> UsageEvent:
    return UsageEvent(
        event_type=EVENT_TYPE,
        customer_id=customer,
        properties={"input_tokens": input_tokens, "output_tokens": output_tokens},
        event_id=event_id,
        event_time=at,
        source=SOURCE,
    )


def _with_trouble(
    start: datetime, end: datetime, names: tuple[str, ...], originals: Sequence[UsageEvent], rng: random.Random
) -> Workload:
    resent = rng.sample(originals, int(len(originals) * _RESENT_SHARE))
    conflicts = [
        replace(event, properties={**event.properties, "input_tokens": "999999"})
        for event in rng.sample(originals, min(_CONFLICTS, len(originals)))
    ]
    return Workload(start, end, names, tuple(originals), tuple(resent), tuple(conflicts), _malformed(start, end, names))


def _malformed(start: datetime, end: datetime, names: tuple[str, ...]) -> tuple[UsageEvent, ...]:
    good = _request("bad", names[0], start + timedelta(days=10), input_tokens=1_000_000, output_tokens=1_000_000)

    def tokens(value: str) -> dict[str, str]:
        return {"input_tokens": value, "output_tokens": "1"}

    wrong = [
        replace(good, event_id=""),
        replace(good, customer_id="x" * 200),
        replace(good, properties=tokens("NaN")),
        replace(good, properties=tokens("1e400")),
        replace(good, properties=tokens("0x1F")),
        replace(good, properties=tokens("")),
        replace(good, properties=tokens("9" * 40)),
        replace(good, properties={"input_tokens": "5"}),
        replace(good, event_time=start - timedelta(days=40)),
        replace(good, event_time=end + timedelta(days=1)),
    ]
    return tuple(
        event if event.event_id == "" else replace(event, event_id=f"bad-{index}") for index, event in enumerate(wrong)
    )
