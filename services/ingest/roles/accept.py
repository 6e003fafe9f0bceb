"""The role that takes usage."""

from __future__ import annotations

import asyncio

from libs.clock import system_clock
from libs.ids import uuid7
from libs.messaging import PRODUCERS, JetStreamPublisher, PullConsumer
from services.ingest.messaging.batch_queue import StreamBatchQueue
from services.ingest.messaging.known_tenants import KnownTenants
from services.ingest.messaging.producers import DURABLE, ProducerMessages, purge_acknowledged, tenant_of
from services.ingest.messaging.queue_level import QueueLevel
from services.ingest.messaging.recorded_replies import NatsRecordedReplies
from services.ingest.roles.process import Parts, Process
from services.ingest.rpc.ingest_service import IngestServicer
from services.ingest.usecases.accept_usage import AcceptUsage
from services.ingest.usecases.tenant_lanes import TenantLanes
from steelyard.ingest.v1 import ingest_service_pb2_grpc

_LANES_DRAIN_S = 5.0
_PRODUCER_MESSAGES = 250
_PRODUCER_ACK_WAIT_S = 10.0
"""Until another acceptor gets what a dead one had taken."""


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
    accept_usage = AcceptUsage(tenants=tenants, lanes=lanes)
    servicer = IngestServicer(accept_usage, epoch)
    process.server.add(servicer, ingest_service_pb2_grpc.add_IngestServiceServicer_to_server)
    messages = ProducerMessages(accept_usage, process.authenticator, process.nats, epoch)
    return {
        "queue level": level.run(process.stopping),
        "producers": _consume(process, messages),
        "purge of producers": purge_acknowledged(js, process.stopping),
    }


async def _consume(process: Process, messages: ProducerMessages) -> None:
    """Take what producers publish, as soon as their keys are known."""
    known, stopping = (asyncio.ensure_future(event.wait()) for event in (process.knows_directory, process.stopping))
    await asyncio.wait({known, stopping}, return_when=asyncio.FIRST_COMPLETED)
    known.cancel()
    stopping.cancel()
    consumer = PullConsumer(
        process.nats.jetstream(),
        stream=PRODUCERS.name,
        durable=DURABLE,
        subjects=PRODUCERS.subjects,
        handler=messages,
        park=messages.refuse,
        batch=_PRODUCER_MESSAGES,
        ack_wait_s=_PRODUCER_ACK_WAIT_S,
        max_ack_pending=8 * _PRODUCER_MESSAGES,
        apart=tenant_of,
    )
    await consumer.run(process.stopping)
