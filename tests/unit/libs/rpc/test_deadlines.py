"""Budgets of calls. Times here are real but the assertions do not depend on speed."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import DeadlineExceeded
from libs.rpc.deadlines import deadline, outgoing_timeout_s, remaining_s


class TestDeadline:
    async def test_is_visible_inside_only(self) -> None:
        async with deadline(60):
            inside = remaining_s()

        assert inside is not None
        assert 50 < inside <= 60
        assert remaining_s() is None

    async def test_is_imposed_when_missing(self) -> None:
        async with deadline(None):
            inside = remaining_s()

        assert inside is not None
        assert 5 < inside <= 10

    async def test_stops_the_block(self) -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(0.01):
                await asyncio.sleep(60)

    @pytest.mark.parametrize("left_s", [0.004, 0.0, -1.0])
    async def test_refuses_to_begin_with_too_little(self, left_s: float) -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(left_s):
                pytest.fail("must not begin")

    async def test_timeouts_of_the_block_itself_are_not_ours(self) -> None:
        with pytest.raises(TimeoutError):
            async with deadline(60):
                raise TimeoutError


class TestOutgoingTimeout:
    def test_outside_a_call_it_is_the_cap(self) -> None:
        assert outgoing_timeout_s(7) == 7

    async def test_inside_it_is_what_is_left_less_a_margin(self) -> None:
        async with deadline(5):
            timeout_s = outgoing_timeout_s(60)

        assert 4 < timeout_s < 4.981

    async def test_inside_it_is_still_capped(self) -> None:
        async with deadline(60):
            assert outgoing_timeout_s(1) == 1

    async def test_refuses_when_too_little_is_left(self) -> None:
        async with deadline(0.02):
            with pytest.raises(DeadlineExceeded):
                outgoing_timeout_s(60)
