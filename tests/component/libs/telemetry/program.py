"""A process with telemetry: serves one span and a few metrics, waits for a line on stdin, and shuts down.

Run as a program of its own, because OpenTelemetry and logging are set up once per process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from libs.telemetry import inject_headers, meter, setup, tracer


def main() -> None:
    telemetry = setup("billing", "billing-1")
    logger = logging.getLogger("program")
    duration = meter("steelyard.test").histogram("steelyard.test.duration", unit="s", description="Test.")
    with tracer("steelyard.test").start_as_current_span("work"):
        duration.record(0.02)
        meter("steelyard.test").counter("steelyard.test.works", unit="{work}", description="Test.").add(3)
        logger.info("working", extra={"headers": inject_headers()})
        logger.debug("in detail")
    threads = sorted(thread.name for thread in threading.enumerate())
    sockets = [name for name in os.listdir("/proc/self/fd") if _is_socket(name)]
    logger.warning("ready", extra={"port": telemetry.metrics_port, "threads": threads, "sockets": len(sockets)})
    sys.stdin.readline()
    telemetry.shutdown()
    logger.warning("done")


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except FileNotFoundError:  # The descriptor of the listing itself.
        return False


if __name__ == "__main__":
    main()
