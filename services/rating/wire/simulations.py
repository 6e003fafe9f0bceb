"""Simulations on the wire."""

from __future__ import annotations

from collections.abc import Mapping

from libs.money import plain
from services.rating.domain.simulation import SimulatedLine, SimulatedPeriod
from services.rating.domain.simulation_summary import Bucket, CustomerChange, SimulationSummary
from services.rating.wire.times import period_to_pb
from steelyard.rating.v1 import simulation_service_pb2 as pb


def simulated_to_pb(compared: SimulatedPeriod) -> pb.SimulatedPeriod:
    """Return a comparison for the wire."""
    period, problem = compared.period, compared.problem
    return pb.SimulatedPeriod(
        subscription_id=period.key.subscription_id,
        customer_id=period.customer_id,
        period=period_to_pb(period.period),
        rate_card_id=period.rate_card_id,
        rate_card_version=compared.rate_card_version,
        currency=compared.currency,
        current_minor=compared.current,
        simulated_minor=compared.simulated,
        lines=map(_line_to_pb, compared.lines),
        problem=problem.reason if problem else "",
        problem_description=problem.description if problem else "",
    )


def summaries_to_pb(summaries: Mapping[str, SimulationSummary], currency: str) -> pb.SummarizeSimulationResponse:
    """Return summaries by currency for the wire, that of one currency first."""
    message = _summary_to_pb(summaries[currency], currency)
    for further in sorted(summaries.keys() - {currency}):
        message.further_currencies.append(_summary_to_pb(summaries[further], further))
    return message


def _summary_to_pb(summary: SimulationSummary, currency: str) -> pb.SummarizeSimulationResponse:
    return pb.SummarizeSimulationResponse(
        currency=currency,
        period_count=summary.periods,
        problems=summary.problem_counts,
        winner_count=summary.winners,
        loser_count=summary.losers,
        unchanged_count=summary.unchanged,
        current_minor=summary.current,
        simulated_minor=summary.simulated,
        distribution=map(_bucket_to_pb, summary.distribution),
        largest_increases=map(_customer_to_pb, summary.largest_increases),
        largest_decreases=map(_customer_to_pb, summary.largest_decreases),
    )


def _line_to_pb(line: SimulatedLine) -> pb.SimulatedLine:
    return pb.SimulatedLine(price_id=line.price_id, current_minor=line.current, simulated_minor=line.simulated)


def _bucket_to_pb(bucket: Bucket) -> pb.SimulationBucket:
    start, end = ("" if edge is None else str(edge) for edge in (bucket.start, bucket.end))
    return pb.SimulationBucket(from_percent=start, to_percent=end, customer_count=bucket.customers)


def _customer_to_pb(customer: CustomerChange) -> pb.SimulatedCustomer:
    return pb.SimulatedCustomer(
        customer_id=customer.customer_id,
        current_minor=customer.current,
        simulated_minor=customer.simulated,
        change_percent="" if customer.percent is None else plain(customer.percent),
    )
