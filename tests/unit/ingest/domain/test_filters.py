"""Which events a meter counts."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.filters import (
    MAX_FILTER_VALUES,
    MAX_FILTERS,
    Exclusion,
    FilterOperator,
    PropertyFilter,
    exclusion_violations,
    filter_violations,
    matching_rows,
)

OF = FilterOperator
EVENTS = [
    {"model": "a", "size": "10"},
    {"model": "b", "size": "2.50"},
    {"model": ""},
    {"size": "-1"},
    {},
]


def matching(*filters: PropertyFilter, exclude: tuple[Exclusion, ...] = ()) -> list[int]:
    rows, problems = matching_rows(filters, exclude, EVENTS, list(range(len(EVENTS))))
    assert problems == {}
    return rows


class TestMatchingRows:
    def test_a_filter_of_two_words_means_equality(self) -> None:
        assert PropertyFilter("model", "a") == PropertyFilter("model", "a", OF.EQUALS, ())
        assert matching(PropertyFilter("model", "a")) == [0]

    @pytest.mark.parametrize(
        ("item", "rows"),
        [
            (PropertyFilter("model", "", OF.EQUALS), [2]),
            (PropertyFilter("model", "a", OF.NOT_EQUALS), [1, 2, 3, 4]),
            (PropertyFilter("model", "", OF.IN, ("a", "")), [0, 2]),
            (PropertyFilter("model", "", OF.NOT_IN, ("a", "")), [1, 3, 4]),
            (PropertyFilter("model", "", OF.EXISTS), [0, 1, 2]),
            (PropertyFilter("model", "", OF.NOT_EXISTS), [3, 4]),
            (PropertyFilter("size", "2.5", OF.LESS_THAN), [3]),
            (PropertyFilter("size", "2.5", OF.LESS_OR_EQUAL), [1, 3]),
            (PropertyFilter("size", "2.5", OF.GREATER_THAN), [0]),
            (PropertyFilter("size", "2.5", OF.GREATER_OR_EQUAL), [0, 1]),
        ],
    )
    def test_each_operator(self, item: PropertyFilter, rows: list[int]) -> None:
        assert matching(item) == rows

    def test_all_filters_have_to_hold(self) -> None:
        between = (PropertyFilter("size", "0", OF.GREATER_THAN), PropertyFilter("size", "10", OF.LESS_THAN))

        assert matching(*between) == [1]
        assert matching(*between, PropertyFilter("model", "a")) == []

    def test_an_exclusion_leaves_out_that_for_which_all_its_filters_hold(self) -> None:
        both = (PropertyFilter("model", "a"), PropertyFilter("size", "10"))
        neither = (PropertyFilter("model", "a"), PropertyFilter("size", "11"))

        assert matching(exclude=(both,)) == [1, 2, 3, 4]
        assert matching(exclude=(neither,)) == [0, 1, 2, 3, 4]
        assert matching(exclude=(both, (PropertyFilter("model", operator=OF.NOT_EXISTS),))) == [1, 2]

    def test_what_is_no_number_is_a_problem_where_everything_else_holds(self) -> None:
        events = [{"size": "large", "model": "a"}, {"size": "large", "model": "b"}, {"size": "3", "model": "a"}]
        filters = (PropertyFilter("size", "2", OF.GREATER_THAN), PropertyFilter("model", "a"))

        rows, problems = matching_rows(filters, (), events, [0, 1, 2])

        assert rows == [2]
        assert [(row, item.field, item.reason) for row, item in problems.items()] == [
            (0, "properties.size", "NOT_A_NUMBER")
        ]

    @given(
        st.sampled_from(FilterOperator),
        st.lists(st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "2", "10"])), max_size=8),
        st.sampled_from(["1", "2", "10"]),
    )
    def test_agrees_with_one_event_at_a_time(
        self, operator: FilterOperator, events: list[dict[str, str]], value: str
    ) -> None:
        meaning: dict[FilterOperator, Callable[[str | None], bool]] = {
            OF.EQUALS: lambda found: found == value,
            OF.NOT_EQUALS: lambda found: found != value,
            OF.IN: lambda found: found in ("1", value),
            OF.NOT_IN: lambda found: found not in ("1", value),
            OF.EXISTS: lambda found: found is not None,
            OF.NOT_EXISTS: lambda found: found is None,
            OF.LESS_THAN: lambda found: found is not None and Decimal(found) < Decimal(value),
            OF.LESS_OR_EQUAL: lambda found: found is not None and Decimal(found) <= Decimal(value),
            OF.GREATER_THAN: lambda found: found is not None and Decimal(found) > Decimal(value),
            OF.GREATER_OR_EQUAL: lambda found: found is not None and Decimal(found) >= Decimal(value),
        }
        item = PropertyFilter("a", value, operator, ("1", value))

        rows, _ = matching_rows([item], (), events, list(range(len(events))))

        assert rows == [row for row, event in enumerate(events) if meaning[operator](event.get("a"))]


def found(*filters: PropertyFilter) -> list[tuple[str, str]]:
    return [(item.field, item.reason) for item in filter_violations(filters, "filters")]


class TestViolations:
    @pytest.mark.parametrize(
        ("item", "field", "reason"),
        [
            (PropertyFilter(""), "filters[0].property", "REQUIRED"),
            (PropertyFilter("p" * 65), "filters[0].property", "TOO_LONG"),
            (PropertyFilter("a", "x" * 257), "filters[0].value", "TOO_LONG"),
            (PropertyFilter("a", "\x00", OF.NOT_EQUALS), "filters[0].value", "CONTROL_CHARACTER"),
            (PropertyFilter("a", values=("x",)), "filters[0].values", "NOT_ALLOWED"),
            (PropertyFilter("a", "x", OF.IN, ("y",)), "filters[0].value", "NOT_ALLOWED"),
            (PropertyFilter("a", operator=OF.IN), "filters[0].values", "REQUIRED"),
            (PropertyFilter("a", operator=OF.NOT_IN, values=("x", "x")), "filters[0].values[1]", "DUPLICATE"),
            (PropertyFilter("a", operator=OF.IN, values=("x" * 257,)), "filters[0].values[0]", "TOO_LONG"),
            (PropertyFilter("a", operator=OF.IN, values=("\x00",)), "filters[0].values[0]", "CONTROL_CHARACTER"),
            (PropertyFilter("a", "x", OF.EXISTS), "filters[0].value", "NOT_ALLOWED"),
            (PropertyFilter("a", operator=OF.NOT_EXISTS, values=("x",)), "filters[0].values", "NOT_ALLOWED"),
            (PropertyFilter("a", "x", OF.LESS_THAN), "filters[0].value", "NOT_A_NUMBER"),
            (PropertyFilter("a", "", OF.GREATER_THAN), "filters[0].value", "EMPTY"),
            (PropertyFilter("a", "1e-13", OF.GREATER_OR_EQUAL), "filters[0].value", "TOO_PRECISE"),
        ],
    )
    def test_name_field_and_reason(self, item: PropertyFilter, field: str, reason: str) -> None:
        assert found(item) == [(field, reason)]

    def test_a_property_may_have_both_bounds_but_nothing_twice(self) -> None:
        low, high = PropertyFilter("a", "1", OF.GREATER_THAN), PropertyFilter("a", "9", OF.LESS_THAN)

        assert found(low, high) == []
        assert found(low, PropertyFilter("a", "2", OF.GREATER_THAN)) == [("filters", "DUPLICATE")]

    def test_limits(self) -> None:
        values = tuple(map(str, range(MAX_FILTER_VALUES + 1)))
        filters = [PropertyFilter(f"p{number}") for number in range(MAX_FILTERS + 1)]

        assert found(PropertyFilter("a", operator=OF.IN, values=values[1:])) == []
        assert found(PropertyFilter("a", operator=OF.IN, values=values)) == [("filters[0].values", "TOO_MANY")]
        assert found(*filters[1:]) == []
        assert found(*filters) == [("filters", "TOO_MANY")]

    @pytest.mark.parametrize(
        ("exclude", "field", "reason"),
        [
            (((),), "exclude[0]", "REQUIRED"),
            (((PropertyFilter("a", "1", OF.LESS_THAN),),), "exclude[0][0].operator", "NOT_ALLOWED"),
            (((PropertyFilter("a", "x"),), (PropertyFilter("", "x"),)), "exclude[1][0].property", "REQUIRED"),
            (((PropertyFilter("a", "x"), PropertyFilter("a", "y")),), "exclude[0]", "DUPLICATE"),
            (((PropertyFilter("a", "x"),),) * (MAX_FILTERS + 1), "exclude", "TOO_MANY"),
        ],
    )
    def test_of_exclusions(self, exclude: tuple[Exclusion, ...], field: str, reason: str) -> None:
        assert [(item.field, item.reason) for item in exclusion_violations(exclude, "exclude")] == [(field, reason)]
