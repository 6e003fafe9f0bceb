"""The role that answers questions."""

from __future__ import annotations

from libs.clock import system_clock
from libs.database import Database
from libs.messaging import DirectoryPublisher, JetStreamPublisher
from services.ingest.messaging.known_tenants import KnownTenants
from services.ingest.messaging.meter_directory import MeterDirectory
from services.ingest.roles.process import Parts, Process
from services.ingest.rpc.finding_service import MissingUsageStores
from services.ingest.rpc.register import CorrectionPorts, QueryPorts, add_query_servicers
from services.ingest.store.corrections import PostgresCorrectionList, PostgresCorrectionTransactions
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.store.fate_audit import PostgresFateDifferences
from services.ingest.store.fate_counts import PostgresFateCountStore
from services.ingest.store.findings import PostgresFindingStore
from services.ingest.store.holds import PostgresHoldStore
from services.ingest.store.log_reading import PostgresLogStore
from services.ingest.store.manifests import PostgresManifestStore
from services.ingest.store.meter_changes import PostgresMeterChanges
from services.ingest.store.meter_publications import PostgresMeterPublications
from services.ingest.store.meters import PostgresMeterStore
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.store.replays import PostgresReplayStore
from services.ingest.store.sources import PostgresSourceStore
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.store.usage_windows import PostgresWindowStore


def query(process: Process, worker: Database) -> Parts:
    """Answer questions, and own meters."""
    api = Database(process.config.database_url, "api", application_name=process.instance)
    process.stack.push_async_callback(api.dispose)
    publisher = DirectoryPublisher(JetStreamPublisher(process.nats.jetstream(), deadline_s=5.0))
    meter_directory = MeterDirectory(PostgresMeterPublications(worker), publisher, system_clock)
    tenants = KnownTenants(process.clocks, system_clock)
    process.follow(tenants.appliers())
    corrections = CorrectionPorts(
        transactions=PostgresCorrectionTransactions(api),
        listed=PostgresCorrectionList(api),
        partitions=PostgresRecordingTransactions(worker),
        tenants=tenants,
    )
    ports = QueryPorts(
        meters=PostgresMeterStore(api, process.config.max_meters),
        meter_changes=PostgresMeterChanges(api),
        publication=meter_directory,
        usage=PostgresUsageStore(api),
        events=PostgresEventStore(api),
        windows=PostgresWindowStore(api),
        quantities=PostgresQuantityStore(api),
        reconciliation=PostgresReconciliationStore(api),
        fate_counts=PostgresFateCountStore(api),
        fate_differences=PostgresFateDifferences(api),
        missing_usage=MissingUsageStores(
            PostgresFindingStore(api), PostgresManifestStore(api), PostgresSourceStore(api), process.clocks.now
        ),
        holds=PostgresHoldStore(worker),
        corrections=corrections,
        replays=PostgresReplayStore(api),
        log=PostgresLogStore(api),
        clock=system_clock,
    )
    add_query_servicers(process.server, ports)
    return {"meter directory": meter_directory.run(process.stopping)}
