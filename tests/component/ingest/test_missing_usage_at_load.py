"""Numbers that arrive in any order from two recorders while the search looks: in the end what is found is missing."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from libs.database import Database
from services.ingest.domain.findings import FindingKind, Resolution
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, fetch
from tests.component.ingest.missing import LATER, Search, numbered

SOURCES = [(source, epoch) for source in ("gateway", "other") for epoch in ("life-1", "")]
MISSING = "SELECT source, sequence_epoch, lower(run), upper(run) FROM source_sequences, unnest(missing) AS run"


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_found_in_the_end_is_missing(worker: Database, api: Database, seed: int) -> None:
    dice = random.Random(seed)
    search = Search(worker, api)
    await search.expect(holding=[FindingKind.SEQUENCE_GAP])
    batches, lost = [], set()
    for source, epoch in SOURCES:
        never = {dice.randrange(2, 300) for _ in range(15)}
        lost |= {(source, epoch, number) for number in never}
        numbers = [number for number in range(1, 301) if number not in never]
        numbers += dice.sample(numbers, 40)  # Sent twice.
        while numbers:
            chosen, numbers = numbers[:7], numbers[7:]
            batches.append((chosen, source, epoch))
    dice.shuffle(batches)
    queued = [
        numbered(number, chosen, source=source, epoch=epoch)
        for number, (chosen, source, epoch) in enumerate(batches, start=1)
    ]
    done = asyncio.Event()

    async def send() -> None:
        record = RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)
        while queued:
            count = dice.randrange(1, 4)
            chunk = queued[:count]
            del queued[:count]
            await record(chunk)

    async def send_all() -> None:
        await asyncio.gather(send(), send())
        done.set()

    async def look() -> int:
        looks = 0
        while not done.is_set():
            looks += 1
            await search.look(LATER + timedelta(seconds=looks))
            await search.held(LATER + timedelta(seconds=looks))
        return looks

    async with asyncio.timeout(120):
        looks, _ = await asyncio.gather(look(), send_all())
    for second in (1, 2):
        await search.look(LATER + timedelta(hours=1, seconds=second))

    found: set[tuple[str, object, int]] = set()
    for finding in await search.open():
        first, last = (int(str(finding.evidence[name])) for name in ("first_missing", "last_missing"))
        of_finding = {
            (finding.source, finding.evidence["sequence_epoch"], number)
            for number in range(first, last + 1)
            if (finding.source, finding.evidence["sequence_epoch"], number) in lost
        }
        assert len(of_finding) == finding.evidence["missing_count"]
        assert not of_finding & found
        found |= of_finding
    assert found == lost
    assert looks > 1
    assert {item.resolution for item in await search.all()} <= {Resolution.NONE, Resolution.ITSELF}
    stored = {
        (source, epoch, number)
        for source, epoch, first, end in await fetch(api, "acme", MISSING)
        for number in range(int(str(first)), int(str(end)))
    }
    assert stored == lost
    assert await search.held(LATER + timedelta(hours=2)) == ["acme"]
