"""A program that forks while its spool is busy: `forking.py PATH INGEST QUERY CHILDREN`.

Parent and children record and print nothing; the exit code says whether all of them could, and whether the parent's
sender lived on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from steelyard import Endpoints
from steelyard.spool import Spool, SpoolOptions

PART = 200


def child(spool: Spool, name: int) -> None:
    for number in range(PART):
        spool.record("call", "c1", event_id=f"child{name}-{number}")
    spool.flush(20)
    if name % 2:  # Every other one sends, too; the parent sends for the rest.
        spool.drain(20)
        spool.close()
    os._exit(0)


def main(path: str, ingest: str, query: str, children: str) -> int:
    signal.alarm(100)
    # A child that ends without close leaves what it was just sending to whoever comes after its lease.
    options = SpoolOptions(commit_every_s=0.002, backoff_s=0.01, call_timeout_s=2, lease_s=3)
    spool = Spool(path, api_key="sy_key", endpoints=Endpoints(ingest=ingest, query=query), options=options)
    stop = threading.Event()

    def produce() -> None:
        number = 0
        while not stop.is_set():
            spool.record("call", "c1", event_id=f"parent-{number}")
            number += 1
            if number % 20 == 0:
                time.sleep(0.001)

    producing = threading.Thread(target=produce)
    producing.start()
    pids = []
    for name in range(int(children)):
        time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            child(spool, name)
        pids.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    stop.set()
    producing.join()
    drained = spool.drain(40)
    spool.close()
    print(statuses, drained, file=sys.stderr)
    return 0 if not any(statuses) and drained else 1


sys.exit(main(*sys.argv[1:]))
