"""A producer that the tests kill: it says on stdout what is safe, and tries to be in the middle of things.

`producer.py PATH PREFIX flush|durable`: records until it is killed, printing the number of events on disk.
"""

from __future__ import annotations

import sys

from steelyard.spool import Spool, SpoolOptions


def main(path: str, prefix: str, how: str) -> None:
    spool = Spool(path, options=SpoolOptions(commit_every_s=0.002))
    number = 0
    while True:
        for _ in range(1 if how == "durable" else 50):
            spool.record("call", "c1", {"number": number}, event_id=f"{prefix}-{number}", durable=how == "durable")
            number += 1
        if how == "flush":
            spool.flush()
        print(number, flush=True)


main(*sys.argv[1:])
