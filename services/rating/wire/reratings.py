"""Reratings on the wire."""

from __future__ import annotations

from libs.money import plain
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rerating import Cause, ReratedCharge
from services.rating.wire.times import instant_to_pb, period_to_pb
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import rerating_service_pb2 as pb


def rerated_to_pb(change: ReratedCharge, cause: Cause | None = None) -> pb.ReratedCharge:
    """Return what changed for the wire; without a cause, of a dry run."""
    after = change.after
    message = pb.ReratedCharge(
        customer_id=after.customer_id,
        subscription_id=after.key.subscription_id,
        period=period_pb2.Period(start=instant_to_pb(after.key.period_start), end=instant_to_pb(after.period_end)),
        price_id=after.price_id,
        currency=after.currency,
        before=None if change.before is None else _content_to_pb(change.before),
        after=_content_to_pb(after),
        version=after.version,
    )
    if cause is not None:
        message.reason, message.actor = cause.reason, cause.actor
        message.rerate_time.CopyFrom(instant_to_pb(cause.at))
    return message


def problem_to_pb(period: BillingPeriod, problem: RatingProblem) -> pb.RerateProblem:
    """Return a billing period that could not be rated for the wire."""
    return pb.RerateProblem(
        subscription_id=period.key.subscription_id,
        period=period_to_pb(period.period),
        reason=problem.reason,
        description=problem.description,
    )


def _content_to_pb(charge: PeriodCharge) -> pb.RatedContent:
    return pb.RatedContent(
        quantity=plain(charge.quantity),
        amount=plain(charge.amount),
        rate_card_version=charge.rate_card_version,
        override_id=charge.override_id,
        engine_version=charge.engine_version,
        withdrawn=charge.withdrawn,
    )
