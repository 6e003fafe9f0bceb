"""Which trace an invoice continues: W3C traceparents, version 00 (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.invoice import InvoiceLine

LINKS_MAX = 128


def trace_parents(lines: Sequence[InvoiceLine]) -> list[str]:
    """The distinct traces behind the lines, at most 128, sampled ones first, otherwise in the order of the lines.

    The first one is the trace that the invoice continues: a viewer can then follow one usage event to its payment.
    """
    distinct: dict[str, str] = {}
    for line in lines:
        if line.trace_parent:
            distinct.setdefault(_trace_id(line.trace_parent), line.trace_parent)
    return sorted(distinct.values(), key=lambda parent: not is_sampled(parent))[:LINKS_MAX]


def is_sampled(trace_parent: str) -> bool:
    """Whether the last flag bit is set; False for what is not a traceparent."""
    flags = trace_parent.rpartition("-")[2]
    try:
        return bool(int(flags, 16) & 1)
    except ValueError:
        return False


def _trace_id(trace_parent: str) -> str:
    return trace_parent.split("-")[1] if trace_parent.count("-") == 3 else trace_parent
