"""All windows behind a charge, however many answers they come in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.priced_windows import explained
from steelyard import Client
from steelyard.rating.v1 import charge_pb2
from steelyard.rating.v1 import charge_service_pb2 as pb

WINDOWS = [
    pb.PricedWindow(start_time=Timestamp(seconds=3600 * hour), quantity="1", amount=str(hour)) for hour in range(5)
]


class Charges:
    """Answers two windows at a time."""

    def __init__(self) -> None:
        self.asked = 0

    async def ExplainCharge(self, request: pb.ExplainChargeRequest) -> pb.ExplainChargeResponse:
        self.asked += 1
        after = request.windows_after.seconds if request.HasField("windows_after") else -1
        left = [window for window in WINDOWS if window.start_time.seconds > after]
        charge = charge_pb2.Charge(price_id=request.price_id)
        return pb.ExplainChargeResponse(charge=charge, windows=left[:2], more_windows=len(left) > 2)


async def test_pages_are_put_together() -> None:
    charges = Charges()
    client = cast(Client, SimpleNamespace(services=SimpleNamespace(charges=charges)))

    found = await explained(client, pb.ExplainChargeRequest(price_id="gpu"))

    assert list(found.windows) == WINDOWS
    assert (found.charge.price_id, found.more_windows, charges.asked) == ("gpu", False, 3)
