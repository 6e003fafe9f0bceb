"""A reader of a stream of charges, for tests."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc

from libs.rpc import as_tenant
from services.rating.wire.times import instant_to_pb
from steelyard.rating.v1 import charge_pb2
from steelyard.rating.v1 import charge_stream_service_pb2 as pb
from steelyard.rating.v1.charge_stream_service_pb2_grpc import ChargeStreamServiceStub
from tests.component.rating.support import MARCH, TENANT

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_stream_service_pb2_grpc import ChargeStreamServiceAsyncStub

Key = tuple[str, int, str]
Metadata = tuple[tuple[str, str | bytes], ...]


def watch_request(*, customers: tuple[str, ...] = (), subscriptions: tuple[str, ...] = ()) -> pb.StreamChargesRequest:
    """A request for March and later: that is long over by the machine's clock."""
    return pb.StreamChargesRequest(
        customer_ids=customers, subscription_ids=subscriptions, ending_after=instant_to_pb(MARCH.start)
    )


class Watching:
    """Reads one stream, and keeps the newest state of each charge. Versions that go back fail the test."""

    def __init__(
        self, channel: grpc.aio.Channel, request: pb.StreamChargesRequest | None = None, tenant: str = TENANT
    ) -> None:
        stub: ChargeStreamServiceAsyncStub = ChargeStreamServiceStub(channel)
        metadata = cast(Metadata, tuple(as_tenant(tenant)))
        self.call = stub.StreamCharges(request or watch_request(), metadata=metadata, timeout=120)
        self.charges: dict[Key, charge_pb2.Charge] = {}
        self.messages: list[pb.StreamChargesResponse] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self.call.cancel()

    async def next(self) -> pb.StreamChargesResponse:
        """Return the next message.

        :raises grpc.aio.AioRpcError: if the stream has ended
        """
        message = await self.call.read()
        assert isinstance(message, pb.StreamChargesResponse), message
        self.messages.append(message)
        for charge in [*message.snapshot.charges, *message.changes.charges]:
            key = (charge.subscription_id, charge.period.start.seconds, charge.price_id)
            assert key not in self.charges or self.charges[key].version < charge.version
            self.charges[key] = charge
        return message

    async def begun(self) -> Self:
        """Read the present charges."""
        while (await self.next()).WhichOneof("content") != "heartbeat":
            pass
        return self

    async def until(self, price: str, quantity: str, *, subscription: str = "sub-1") -> charge_pb2.Charge:
        """Read until a charge has that quantity."""
        while self.quantity(price, subscription=subscription) != quantity:
            await self.next()
        return self.charges[self._key(price, subscription)]

    async def until_watermark(self, at: object) -> None:
        """Read until a heartbeat says so."""
        while not self.messages or self.messages[-1].heartbeat.watermark_time != at:
            await self.next()

    def quantity(self, price: str, *, subscription: str = "sub-1") -> str:
        """What the newest state of a charge says; empty if there is none."""
        charge = self.charges.get(self._key(price, subscription))
        return "" if charge is None else charge.quantity

    @staticmethod
    def _key(price: str, subscription: str) -> Key:
        return (subscription, int(MARCH.start.timestamp()), price)
