"""UUIDv7: layout of RFC 9562 and order within a process."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from threading import Thread

from libs.ids import Uuid7Source, new_id, uuid7

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NOON_MS = 1772366400123


def unix_ms(value: uuid.UUID) -> int:
    return value.int >> 80


class TestUuid7Source:
    def test_has_the_layout_of_version_7(self) -> None:
        made = Uuid7Source(lambda: NOON)()

        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert unix_ms(made) == NOON_MS

    def test_grows_strictly_within_one_millisecond(self) -> None:
        source = Uuid7Source(lambda: NOON)

        made = [source() for _ in range(10_000)]

        assert all(earlier < later for earlier, later in itertools.pairwise(made))
        assert {value.version for value in made} == {7}
        assert {value.variant for value in made} == {uuid.RFC_4122}

    def test_grows_when_the_clock_steps_back(self) -> None:
        times = iter([NOON, NOON - timedelta(hours=1), NOON + timedelta(milliseconds=1)])
        source = Uuid7Source(lambda: next(times))

        first, second, third = source(), source(), source()

        assert first < second < third
        assert (unix_ms(second), unix_ms(third)) == (NOON_MS, NOON_MS + 1)

    def test_runs_ahead_a_millisecond_when_the_random_part_overflows(self) -> None:
        source = Uuid7Source(lambda: NOON, random_bits=lambda bits: (1 << 74) - 1)

        first, second = source(), source()

        assert first < second
        assert (unix_ms(first), unix_ms(second)) == (NOON_MS, NOON_MS + 1)

    def test_threads_share_a_source_without_repeats(self) -> None:
        source = Uuid7Source(lambda: NOON)
        made: list[uuid.UUID] = []
        threads = [Thread(target=lambda: made.extend(source() for _ in range(2_000))) for _ in range(4)]

        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(made)) == 8_000


class TestNewId:
    def test_is_prefix_and_uuid(self) -> None:
        prefix, _, digits = new_id("inv").partition("_")

        assert prefix == "inv"
        assert len(digits) == 32
        assert uuid.UUID(hex=digits).version == 7

    def test_sorts_by_creation(self) -> None:
        made = [new_id("inv") for _ in range(1_000)]

        assert made == sorted(made)
        assert len(set(made)) == 1_000
        assert uuid7() > uuid.UUID(hex=made[-1][4:])
