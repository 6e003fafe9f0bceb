"""The credit of a stream, and the bytes that all streams hold."""

from __future__ import annotations

import pytest

from libs.errors import InvalidInput
from services.ingest.rpc.stream_credit import CreditExceeded, StreamCredit, StreamLoad
from services.ingest.usecases.errors import Overloaded


class TestStreamCredit:
    def test_takes_as_many_batches_as_it_says(self) -> None:
        credit = StreamCredit(max_batches=2, max_bytes=1_000)
        credit.take(1, 10)
        credit.take(2, 10)

        with pytest.raises(CreditExceeded):
            credit.take(3, 10)

    def test_takes_as_many_bytes_as_it_says(self) -> None:
        credit = StreamCredit(max_batches=9, max_bytes=1_000)
        credit.take(1, 400)
        credit.take(2, 600)

        with pytest.raises(CreditExceeded):
            credit.take(3, 1)

    def test_takes_a_single_batch_of_any_size(self) -> None:
        credit = StreamCredit(max_batches=9, max_bytes=1_000)
        credit.take(1, 5_000)
        credit.settle(1)

        credit.take(2, 5_000)

        with pytest.raises(CreditExceeded):
            credit.take(3, 1)

    def test_a_settled_batch_makes_room(self) -> None:
        credit = StreamCredit(max_batches=1, max_bytes=1_000)
        for number in range(1, 100):
            credit.take(number, 900)
            credit.settle(number)

    @pytest.mark.parametrize("number", [-1, 0, 6, 7])
    def test_numbers_grow(self, number: int) -> None:
        credit = StreamCredit(max_batches=9, max_bytes=1_000)
        credit.take(7, 1)
        credit.settle(7)

        with pytest.raises(InvalidInput) as caught:
            credit.take(number, 1)

        assert caught.value.reason == "BATCH_NUMBER_NOT_GROWING"

    @pytest.mark.parametrize("number", [-1, 0])
    def test_the_first_number_is_at_least_one(self, number: int) -> None:
        with pytest.raises(InvalidInput):
            StreamCredit(max_batches=9, max_bytes=1_000).take(number, 1)


class TestStreamLoad:
    def test_refuses_what_is_too_much_for_the_process(self) -> None:
        load = StreamLoad(100)
        load.hold(60)
        with pytest.raises(Overloaded) as caught:
            load.hold(41)
        load.hold(40)

        assert caught.value.retry_after_s is not None
        assert load.held_bytes == 100

    def test_an_answer_takes_the_place_of_its_batch_whatever_its_size(self) -> None:
        load = StreamLoad(100)
        load.hold(60)
        load.exchange(60, 150)
        with pytest.raises(Overloaded):
            load.hold(1)
        load.exchange(150, 0)

        load.hold(100)
