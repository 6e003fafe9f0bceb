"""Logs: one JSON object per line on stderr, tied to the trace they were written in."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from opentelemetry import trace

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRETS = (
    (re.compile(r"\bsy_([0-9a-f]{8})_\w+"), r"sy_\1_***"),  # Our API keys: the id may be seen, the secret not.
    (re.compile(r"(?i)\b(bearer\s+)(?!sy_)[^\s\"',)\\]+"), r"\1***"),
    (re.compile(r"(://[^:/@\s\"]*):[^/@\s\"]+@"), r"\1:***@"),  # Passwords in URLs.
    (re.compile(r"\b([sr]k_(?:live|test)|whsec)_\w+"), r"\1_***"),  # Keys of payment gateways.
)


def redacted(text: str) -> str:
    """The text without API keys, bearer credentials, passwords in URLs and gateway keys."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """Writes a record with service, instance, trace ids, the fields given as `extra`, and an exception as text."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._origin = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._origin,
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        return redacted(json.dumps({**extra, **entry}, default=str, ensure_ascii=False))


def configure_logs(service: str, instance: str, level: str) -> None:
    """Send all logging of the process to stderr as JSON, from the level on (`DEBUG`, `INFO`, ...).

    :raises ValueError: if there is no such level
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service, instance))
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = [handler]
