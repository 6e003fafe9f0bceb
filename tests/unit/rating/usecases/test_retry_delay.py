from __future__ import annotations

from datetime import timedelta

import pytest

from services.rating.usecases.rate_chunk import retry_delay


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (10_000, 300)])
def test_the_delay_doubles_up_to_five_minutes(attempts: int, seconds: int) -> None:
    assert retry_delay(attempts) == timedelta(seconds=seconds)
