"""What billing reads in rating's answers."""

from __future__ import annotations

import pytest

from libs.periods import Period
from libs.rpc import channel
from services.billing.clients.rating import GrpcRating
from services.billing.domain.charge import PeriodKey
from services.billing.usecases.ports import Confirmed
from services.billing.wire.common import period_to_pb, time_to_pb
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import charge_service_pb2
from tests.component.billing.peers import Context, RatingPeer, serving
from tests.unit.billing.fakes import utc

KEY = PeriodKey("sub-01", utc(2026, 3, 1))
MARCH = Period(KEY.period_start, utc(2026, 4, 1))


class Answering(RatingPeer):
    """Confirms every period, and says of all of them that it is this one."""

    def __init__(self, period: period_pb2.Period | None, whole: period_pb2.Period | None) -> None:
        super().__init__()
        self.period, self.whole = period, whole

    async def ConfirmCharges(
        self, request: charge_service_pb2.ConfirmChargesRequest, context: Context
    ) -> charge_service_pb2.ConfirmChargesResponse:
        result = charge_service_pb2.ConfirmedCharges(
            key=request.keys[0], confirmed=True, period=self.period, whole_period=self.whole
        )
        return charge_service_pb2.ConfirmChargesResponse(results=[result])


async def answer(period: period_pb2.Period | None, whole: period_pb2.Period | None = None) -> Confirmed:
    peer = Answering(period, whole)  # type: ignore[abstract]  # The rest is answered UNIMPLEMENTED.
    async with serving(peer) as target, channel(target, key="") as opened:
        [confirmed] = await GrpcRating(opened).confirm_charges("acme", [KEY])
    return confirmed


async def test_the_period_that_charges_are_for() -> None:
    whole = Period(utc(2026, 2, 15), MARCH.end)

    assert await answer(period_to_pb(MARCH)) == Confirmed(KEY, (), period=MARCH)
    assert await answer(period_to_pb(MARCH), period_to_pb(whole)) == Confirmed(KEY, (), period=MARCH, whole=whole)


async def test_none_of_older_versions() -> None:
    assert await answer(None) == Confirmed(KEY, ())


@pytest.mark.parametrize(
    "period",
    [
        pytest.param(period_pb2.Period(), id="empty"),
        pytest.param(period_pb2.Period(start=time_to_pb(MARCH.end), end=time_to_pb(MARCH.start)), id="backwards"),
    ],
)
async def test_an_impossible_period_confirms_nothing(period: period_pb2.Period) -> None:
    confirmed = await answer(period)

    assert confirmed.refusal.startswith("rating answered with an impossible period")
    assert confirmed.period is None
    assert (await answer(period_to_pb(MARCH), period)).refusal.startswith("rating answered with an impossible period")
