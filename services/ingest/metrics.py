"""What a process of ingest counts; Prometheus and OTLP read it."""

from __future__ import annotations

from libs.telemetry import meter

_METER = meter("steelyard.ingest")

EVENTS_ACCEPTED = _METER.counter("steelyard.events.accepted", unit="{event}", description="Passed the door.")
EVENTS_REJECTED = _METER.counter(
    "steelyard.events.rejected", unit="{event}", description="Refused, by the door or the recorder.", labels=["by"]
)
STREAMS_OPEN = _METER.gauge("steelyard.streams.open", unit="{stream}", description="Streams of usage being served.")
STREAM_BATCHES = _METER.counter(
    "steelyard.stream.batches",
    unit="{batch}",
    description="Batches answered on streams: acknowledged, refused or failed.",
    labels=["outcome"],
)
PRODUCER_MESSAGES = _METER.counter(
    "steelyard.producers.messages",
    unit="{message}",
    description="Messages of producers on NATS: taken, or refused for their key.",
    labels=["outcome"],
)
EVENTS_RECORDED = _METER.counter("steelyard.events.recorded", unit="{event}", description="Added to the log.")
EVENTS_DUPLICATE = _METER.counter("steelyard.events.duplicate", unit="{event}", description="Sent again.")
EVENTS_CONFLICT = _METER.counter(
    "steelyard.events.conflict", unit="{event}", description="Sent under the id of another event."
)
RECORDER_LAG = _METER.gauge(
    "steelyard.recorder.lag", unit="s", description="Age of the newest batch of the last chunk when it was recorded."
)
RECORDER_CHUNK_DURATION = _METER.histogram(
    "steelyard.recorder.chunk.duration", unit="s", description="Time to record one chunk of batches."
)
WATERMARK_LAG = _METER.gauge("steelyard.watermark.lag", unit="s", description="Age of the watermark.")
MISSING_BATCHES = _METER.gauge(
    "steelyard.batches.missing", unit="{batch}", description="Batches that the queue lost; each holds its tenant."
)
UNACCOUNTED_MESSAGES = _METER.gauge(
    "steelyard.queue.unaccounted", unit="{message}", description="Messages passed by the consumer but not recorded."
)
QUEUE_LOST = _METER.gauge(
    "steelyard.queue.lost", unit="1", description="1 while a loss of the queue is unresolved: there is no watermark."
)
FATE_DIFFERENCES = _METER.gauge(
    "steelyard.fates.differences",
    unit="{difference}",
    description="Open differences between counts, batches, log and windows of all tenants; see ListFateDifferences.",
)
