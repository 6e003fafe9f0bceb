from __future__ import annotations

from dataclasses import replace

from services.billing.domain.charge import PeriodKey
from services.billing.domain.invoice import InvoiceLine, lines_from_charges
from services.billing.domain.trace import LINKS_MAX, trace_parents
from tests.unit.billing.fakes import TRACE_PARENT, a_charge, utc

NOT_SAMPLED = "00-11111111111111111111111111111111-b7ad6b7169203331-00"


def a_line(trace_parent: str) -> InvoiceLine:
    [line] = lines_from_charges([a_charge(PeriodKey("sub-01", utc(2026, 1, 1)))], "EUR")
    return replace(line, trace_parent=trace_parent)


class TestTraceParents:
    def test_begin_with_a_sampled_one(self) -> None:
        assert trace_parents([a_line(""), a_line(NOT_SAMPLED), a_line(TRACE_PARENT)]) == [TRACE_PARENT, NOT_SAMPLED]

    def test_name_each_trace_once(self) -> None:
        sibling = TRACE_PARENT.replace("b7ad6b7169203331", "0000000000000001")
        assert trace_parents([a_line(TRACE_PARENT), a_line(sibling)]) == [TRACE_PARENT]

    def test_are_at_most_what_a_span_may_link_to(self) -> None:
        many = [a_line(f"00-{number:032x}-b7ad6b7169203331-01") for number in range(1, 300)]
        assert len(trace_parents(many)) == LINKS_MAX

    def test_of_lines_without_traces_are_none(self) -> None:
        assert trace_parents([a_line("")]) == []
