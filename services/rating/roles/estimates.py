"""Estimates: part of every process that serves RPCs."""

from __future__ import annotations

import grpc
from nats.js import JetStreamContext

from libs.database import Database
from libs.rpc import GrpcServer
from services.rating.clients.ingest_measuring import GrpcEventMeasuring
from services.rating.messaging.passed_watermark import PublishedWatermark
from services.rating.rpc.estimate_service import EstimateServicer
from services.rating.store.unit_of_work import PostgresUnitOfWork
from services.rating.usecases.estimate_event import EstimateEvent
from services.rating.wire.usage import watermark_to_bytes
from steelyard.rating.v1 import estimate_service_pb2_grpc


def add_estimates(server: GrpcServer, database: Database, ingest: grpc.aio.Channel, js: JetStreamContext) -> None:
    """Serve EstimateService."""
    open_work = PostgresUnitOfWork(database, watermark_to_bytes)
    estimate_event = EstimateEvent(open_work, GrpcEventMeasuring(ingest), PublishedWatermark(js))
    server.add(
        EstimateServicer(estimate_event=estimate_event),
        estimate_service_pb2_grpc.add_EstimateServiceServicer_to_server,
    )
