from __future__ import annotations

from libs.outbox.packing import MAX_BYTES, StateValue, pack_id, packs


def _values(count: int, size: int) -> list[StateValue]:
    return [StateValue(f"w{number}", number, b"x" * size) for number in range(count)]


class TestPacks:
    def test_holds_at_most_500_values(self) -> None:
        assert [len(pack) for pack in packs(_values(1001, 1))] == [500, 500, 1]

    def test_holds_at_most_256_kb(self) -> None:
        assert [len(pack) for pack in packs(_values(5, MAX_BYTES // 2))] == [2, 2, 1]
        assert [len(pack) for pack in packs(_values(2, MAX_BYTES // 2 + 1))] == [1, 1]

    def test_a_larger_value_goes_alone(self) -> None:
        small, large = StateValue("s", 1, b"x"), StateValue("l", 1, b"x" * (MAX_BYTES + 1))

        assert list(packs([large, small, large, large])) == [[large], [small], [large], [large]]

    def test_of_nothing_there_are_none(self) -> None:
        assert list(packs([])) == []


class TestPackId:
    def test_names_tenant_and_entity_and_does_not_depend_on_order(self) -> None:
        values = _values(3, 1)
        first = pack_id("acme", "usage-window", values)

        assert first.startswith("acme:usage-window:")
        assert pack_id("acme", "usage-window", values[::-1]) == first

    def test_differs_with_version_key_and_number_of_values(self) -> None:
        ids = {
            pack_id("acme", "usage-window", values)
            for values in (
                [StateValue("a", 1, b"")],
                [StateValue("a", 2, b"")],
                [StateValue("b", 1, b"")],
                [StateValue("a", 1, b""), StateValue("b", 1, b"")],
                [StateValue("a:1\n1:b", 1, b"")],
            )
        }
        assert len(ids) == 5
