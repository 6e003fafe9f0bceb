"""Manifests that cannot be compared: they are refused, and one that is there stops nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from libs.database import Database
from libs.errors import InvalidInput
from services.ingest.domain.findings import FindingKind, ManifestLine, ManifestState
from services.ingest.usecases.missing_usage_requests import ManifestRequest
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, a_meter, add_meters
from tests.component.ingest.missing import LATER, Search, mutation, numbered

HOUR = timedelta(hours=1)
LINE = ManifestLine("calls", "", 1, None)


@pytest.fixture
def search(worker: Database, api: Database) -> Search:
    return Search(worker, api)


@pytest.mark.parametrize(
    ("start", "now", "field"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), NOON, "manifest.start_time"),
        (datetime(1969, 12, 31, 23, tzinfo=UTC), NOON, "manifest.start_time"),
        (datetime(2262, 4, 11, 23, tzinfo=UTC), datetime(2400, 1, 1, tzinfo=UTC), "manifest.end_time"),
    ],
    ids=["year-1", "before-1970", "beyond-64-bits"],
)
def test_a_period_in_which_no_event_can_lie_is_refused(start: datetime, now: datetime, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ManifestRequest("gateway", start, start + HOUR, [LINE]).check(mutation(), now)

    assert [(item.field, item.reason) for item in caught.value.violations] == [(field, "OUT_OF_RANGE")]


async def test_one_that_fails_lets_the_others_be_compared_and_gaps_be_found(
    search: Search, record: RecordUsage, api: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It was stored before anybody refused it, and is due before all others."""
    for tenant in ("acme", "other"):
        await add_meters(api, a_meter("calls", expression=""), tenant=tenant)
    impossible = ManifestRequest("gateway", datetime(1000, 1, 1, tzinfo=UTC), datetime(1000, 1, 2, tzinfo=UTC), [LINE])
    await search.manifests.submit(mutation(), impossible, NOON - HOUR)
    good = ManifestRequest("gateway", NOON - HOUR, NOON + timedelta(minutes=1), [LINE])
    await search.manifests.submit(mutation("other"), good, NOON)
    await record([numbered(1, [1, 3], tenant="other")])

    await search.look(LATER)
    await search.look(LATER + timedelta(seconds=1))

    assert [item.kind for item in await search.open("other")] == [
        FindingKind.MANIFEST_DISAGREES,
        FindingKind.SEQUENCE_GAP,
    ]
    assert [item.state for item in await search.manifests.list("acme", None, 10)] == [ManifestState.PENDING]
    assert [item.state for item in await search.manifests.list("other", None, 10)] == [ManifestState.DISAGREED]
    assert "cannot be compared" in caplog.text


async def test_one_that_a_person_has_dealt_with_is_read_ever_more_seldom(search: Search, api: Database) -> None:
    """Else each of them would have its period read every two minutes for ever."""
    await add_meters(api, a_meter("calls", expression=""))
    for source in ("gateway", "resolved"):
        await search.submit(LINE, at=NOON, source=source)
    await search.look(NOON + 2 * HOUR)
    await search.resolve(next(item for item in await search.open() if item.source == "resolved"))

    for at in (NOON + 9 * HOUR, NOON + 10 * HOUR):
        await search.look(at)

    compared = {item.source: item.compared_at for item in await search.manifests.list("acme", None, 10)}
    assert compared == {"gateway": NOON + 10 * HOUR, "resolved": NOON + 9 * HOUR}
