from __future__ import annotations

from decimal import Decimal

import pytest

from services.billing.store.rows import join_column
from services.billing.usecases.ports import RowsRefused
from tests.unit.billing.fakes import utc


class TestJoinColumn:
    def test_begins_with_an_empty_item_so_that_one_empty_text_is_not_none(self) -> None:
        assert join_column([""]) == "\x1f"
        assert join_column(["a", "", "b"]) == "\x1fa\x1f\x1fb"

    def test_keeps_every_digit_and_the_offset(self) -> None:
        assert join_column([Decimal("12345678901234567890.10"), Decimal(7)]) == "\x1f12345678901234567890.10\x1f7"
        assert join_column([utc(2026, 1, 1)]) == "\x1f2026-01-01 00:00:00+00:00"

    def test_never_shifts_a_column_against_the_others(self) -> None:
        with pytest.raises(RowsRefused):
            join_column(["calls", "ca\x1flls"])
