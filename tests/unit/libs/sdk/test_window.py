"""What a producer has under way on a stream."""

from __future__ import annotations

from steelyard.window import Window


def a_window(max_batches: int = 2, max_bytes: int = 100) -> Window[str]:
    window: Window[str] = Window()
    window.grant(max_batches, max_bytes)
    return window


class TestWindow:
    def test_has_no_room_before_there_is_credit(self) -> None:
        assert not Window[str]().has_room(0)

    def test_has_room_for_as_many_batches_as_the_server_allows(self) -> None:
        window = a_window()
        for item in ("a", "b"):
            assert window.has_room(10)
            window.add(item, 10)

        assert not window.has_room(10)

    def test_has_room_for_as_many_bytes_as_the_server_allows(self) -> None:
        window = a_window(max_batches=9)
        window.add("a", 60)

        assert window.has_room(40)
        assert not window.has_room(41)

    def test_a_single_batch_may_have_any_size(self) -> None:
        window = a_window()
        assert window.has_room(1_000)
        window.add("a", 1_000)

        assert not window.has_room(1)

    def test_an_answer_makes_room_and_is_found_by_its_number(self) -> None:
        window = a_window()
        numbers = []
        for item in ("a", "b"):
            numbers.append(window.next_number)
            window.add(item, 50)

        assert numbers == [1, 2]
        assert window.settle(2) == "b"
        assert window.settle(2) is None
        assert window.has_room(50)
        assert (len(window), window.answered) == (1, 1)

    def test_a_smaller_credit_counts_what_is_under_way(self) -> None:
        window = a_window()
        window.add("a", 50)
        window.grant(1, 100)
        assert not window.has_room(1)
        window.grant(0, 0)
        window.settle(1)

        assert not window.has_room(1)

    def test_what_is_unanswered_keeps_its_order(self) -> None:
        window = a_window(max_batches=9)
        for item in ("a", "b", "c"):
            window.add(item, 1)
        window.settle(2)

        assert window.unanswered() == ["a", "c"]
