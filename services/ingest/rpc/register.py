"""Adds the servicers of the query role to a server."""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import uuid7
from libs.rpc import GrpcServer
from services.ingest.rpc.correction_service import CorrectionServicer
from services.ingest.rpc.fate_service import FateServicer
from services.ingest.rpc.finding_service import FindingServicer, MissingUsageStores
from services.ingest.rpc.hold_service import HoldServicer
from services.ingest.rpc.log_service import LogServicer
from services.ingest.rpc.measuring_service import MeasuringServicer
from services.ingest.rpc.meter_service import MeterServicer
from services.ingest.rpc.reconciliation_service import ReconciliationServicer
from services.ingest.rpc.replay_service import ReplayServicer
from services.ingest.rpc.usage_service import UsageServicer
from services.ingest.rpc.usage_window_service import UsageWindowServicer
from services.ingest.usecases.change_meter import ChangeMeter, MeterChanges
from services.ingest.usecases.corrections import CorrectionList, CorrectionTransactions
from services.ingest.usecases.create_meter import CreateMeter, MeterPublication, MeterStore
from services.ingest.usecases.fate_counts import FateCountStore
from services.ingest.usecases.holds import HoldStore, ResolveHold
from services.ingest.usecases.list_fate_differences import FateDifferenceStore
from services.ingest.usecases.list_windows import WindowStore
from services.ingest.usecases.log_ports import LogStore
from services.ingest.usecases.measure_events import MeasureEvents
from services.ingest.usecases.ports import RecordingTransactions, TenantRules
from services.ingest.usecases.query_events import EventStore
from services.ingest.usecases.query_usage import QueryUsage, UsageStore
from services.ingest.usecases.reconcile import Reconcile, ReconciliationStore
from services.ingest.usecases.replace_events import ReplaceEvents
from services.ingest.usecases.replays import ChangeReplays, ReplayStore
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityStore
from services.ingest.usecases.void_events import VoidEvents
from steelyard.ingest.v1 import (
    correction_service_pb2_grpc,
    fate_service_pb2_grpc,
    finding_service_pb2_grpc,
    hold_service_pb2_grpc,
    log_service_pb2_grpc,
    measuring_service_pb2_grpc,
    meter_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
    replay_service_pb2_grpc,
    usage_service_pb2_grpc,
    usage_window_service_pb2_grpc,
)


@dataclass(frozen=True, slots=True)
class CorrectionPorts:
    """What corrections stand on; `partitions` is logged in as worker, who alone may make room in the log."""

    transactions: CorrectionTransactions
    listed: CorrectionList
    partitions: RecordingTransactions
    tenants: TenantRules


@dataclass(frozen=True, slots=True)
class QueryPorts:
    """What the query role stands on; all stores but that of holds, which are an operator's, are logged in as api."""

    meters: MeterStore
    meter_changes: MeterChanges
    publication: MeterPublication
    usage: UsageStore
    events: EventStore
    windows: WindowStore
    quantities: QuantityStore
    reconciliation: ReconciliationStore
    fate_counts: FateCountStore
    fate_differences: FateDifferenceStore
    missing_usage: MissingUsageStores
    holds: HoldStore
    corrections: CorrectionPorts
    replays: ReplayStore
    log: LogStore
    clock: Clock


def add_query_servicers(server: GrpcServer, ports: QueryPorts) -> None:
    """Serve QUERY_METHODS."""
    create_meter = CreateMeter(meters=ports.meters, publication=ports.publication, clock=ports.clock)
    change_meter = ChangeMeter(changes=ports.meter_changes, publication=ports.publication, clock=ports.clock)
    meters = MeterServicer(create_meter, change_meter, ports.meters, ports.meter_changes)
    server.add(meters, meter_service_pb2_grpc.add_MeterServiceServicer_to_server)
    server.add(
        UsageServicer(QueryUsage(usage=ports.usage), ports.events),
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
    )
    server.add(
        UsageWindowServicer(ports.windows, GetUsageQuantities(ports.quantities)),
        usage_window_service_pb2_grpc.add_UsageWindowServiceServicer_to_server,
    )
    server.add(
        ReconciliationServicer(Reconcile(ports.reconciliation)),
        reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server,
    )
    server.add(
        FindingServicer(ports.missing_usage, ports.clock),
        finding_service_pb2_grpc.add_FindingServiceServicer_to_server,
    )
    server.add(
        HoldServicer(ports.holds, ResolveHold(ports.holds, ports.clock)),
        hold_service_pb2_grpc.add_HoldServiceServicer_to_server,
    )
    server.add(
        ReplayServicer(ChangeReplays(ports.replays, ports.clock), ports.replays),
        replay_service_pb2_grpc.add_ReplayServiceServicer_to_server,
    )
    server.add(
        MeasuringServicer(MeasureEvents(ports.corrections.tenants)),
        measuring_service_pb2_grpc.add_MeasuringServiceServicer_to_server,
    )
    _add_corrections(server, ports.corrections, ports.clock)
    fates = FateServicer(ports.fate_counts, ports.fate_differences)
    server.add(fates, fate_service_pb2_grpc.add_FateServiceServicer_to_server)
    server.add(LogServicer(ports.log), log_service_pb2_grpc.add_LogServiceServicer_to_server)


def _add_corrections(server: GrpcServer, ports: CorrectionPorts, clock: Clock) -> None:
    def new_id() -> str:
        return str(uuid7())

    void = VoidEvents(transactions=ports.transactions, clock=clock, new_id=new_id)
    replace = ReplaceEvents(
        transactions=ports.transactions,
        partitions=ports.partitions,
        tenants=ports.tenants,
        clock=clock,
        new_id=new_id,
    )
    server.add(
        CorrectionServicer(void, replace, ports.listed),
        correction_service_pb2_grpc.add_CorrectionServiceServicer_to_server,
    )
