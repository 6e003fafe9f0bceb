"""The role that takes usage."""

from __future__ import annotations

from libs.clock import system_clock
from libs.ids import uuid7
from libs.messaging import JetStreamPublisher
from services.ingest.messaging.batch_queue import StreamBatchQueue
from services.ingest.messaging.known_tenants import KnownTenants
from services.ingest.messaging.queue_level import QueueLevel
from services.ingest.messaging.recorded_replies import NatsRecordedReplies
from services.ingest.roles.process import Parts, Process
from services.ingest.rpc.ingest_service import IngestServicer
from services.ingest.usecases.accept_usage import AcceptUsage
from services.ingest.usecases.tenant_lanes import TenantLanes
from steelyard.ingest.v1 import ingest_service_pb2_grpc

_LANES_DRAIN_S = 5.0


async def accept(process: Process) -> Parts:
    """Take usage into the queue, without a database."""
    js = process.nats.jetstream()
    tenants = KnownTenants(process.clocks, system_clock)
    process.follow(tenants.appliers())
    # One life of this process: numbers begin again with the next one.
    epoch = str(uuid7())
    replies = await NatsRecordedReplies.subscribe(process.nats, epoch)
    level = QueueLevel(js)
    queue = StreamBatchQueue(JetStreamPublisher(js), level, acceptor_epoch=epoch, reply_subject=replies.subject)
    lanes = TenantLanes(queue, replies, system_clock, max_pending_bytes=process.config.max_pending_bytes)
    process.stack.push_async_callback(lanes.drain, _LANES_DRAIN_S)
    servicer = IngestServicer(AcceptUsage(tenants=tenants, lanes=lanes), epoch)
    process.server.add(servicer, ingest_service_pb2_grpc.add_IngestServiceServicer_to_server)
    return {"queue level": level.run(process.stopping)}
