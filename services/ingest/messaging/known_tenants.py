"""What acceptors know of tenants, from the directory."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.message import DecodeError

from libs.clock import Clock
from libs.directory import KnownClocks
from libs.errors import InvalidInput
from libs.messaging import Applier, UnreadableMessage
from services.ingest.domain.door import DoorPolicy
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_versions import counting
from services.ingest.usecases.ports import AcceptanceRules
from services.ingest.wire.meters import meter_from_pb
from steelyard.billing.v1 import directory_pb2 as billing_pb2
from steelyard.ingest.v1 import directory_pb2

_LONGEST_LIMIT_S = 3650 * 86_400


class KnownTenants:
    """TenantRules from `directory.tenant`, `.meter` and `.customer`. An unknown tenant gets the default policy."""

    def __init__(self, clocks: KnownClocks, clock: Clock) -> None:
        """`clock` is real time, in which meters end."""
        self._clocks = clocks
        self._clock = clock
        self._policies: dict[str, tuple[int, DoorPolicy]] = {}
        self._meters: dict[str, dict[str, Meter]] = {}
        self._customers: dict[str, set[str]] = {}

    def appliers(self) -> dict[str, Applier]:
        """What to give to the directory's reader, by kind of entry."""
        return {"tenant": self._apply_tenant, "meter": self._apply_meter, "customer": self._apply_customer}

    def rules(self, tenant_id: str) -> AcceptanceRules:
        _, policy = self._policies.get(tenant_id, (0, DoorPolicy()))
        # Ended before the batch is received: recorders decide by that instant, which is later than this one.
        meters = counting(tuple(self._meters.get(tenant_id, {}).values()), self._clock())
        return AcceptanceRules(policy, meters, self._clocks.now(tenant_id))

    def _apply_tenant(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        if payload is None:
            self._policies.pop(ids[0], None)
            return
        try:
            entry = billing_pb2.TenantEntry.FromString(payload)
        except DecodeError as error:
            raise UnreadableMessage(f"no TenantEntry: {ids}") from error
        known = self._policies.get(entry.tenant_id)
        if known is None or entry.version >= known[0]:
            # The set is shared, so that customers who come later are known at once.
            customers = self._customers.setdefault(entry.tenant_id, set())
            policy = DoorPolicy(
                past_limit=timedelta(seconds=min(entry.event_past_limit_s, _LONGEST_LIMIT_S)),
                future_limit=timedelta(seconds=min(entry.event_future_limit_s, _LONGEST_LIMIT_S)),
                known_customers=customers if entry.reject_unknown_customers else None,
            )
            self._policies[entry.tenant_id] = (entry.version, policy)

    def _apply_meter(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        if payload is None:
            raise UnreadableMessage(f"meters are never removed: {ids}")
        try:
            entry = directory_pb2.MeterEntry.FromString(payload)
            meter = meter_from_pb(entry.meter)
            _ = meter.compiled
        except (DecodeError, ValueError, InvalidInput) as error:
            raise UnreadableMessage(f"no MeterEntry: {ids}") from error
        known = self._meters.setdefault(entry.tenant_id, {})
        if meter.meter_id not in known or known[meter.meter_id].version <= meter.version:
            known[meter.meter_id] = meter

    def _apply_customer(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        tenant_id, customer_id = ids
        customers = self._customers.setdefault(tenant_id, set())
        if payload is None:
            customers.discard(customer_id)
        else:
            customers.add(customer_id)
