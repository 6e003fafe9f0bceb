"""The command: exits 1 if a vector fails, 2 if a file or the usage is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.vectors.running import BadFile, Status, read_vectors, run


def main(arguments: Sequence[str]) -> int:
    if not arguments or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m tests.vectors FILE...", file=sys.stderr)
        return 2
    try:
        vectors = [vector for argument in arguments for vector in read_vectors(Path(argument))]
    except BadFile as error:
        print(error, file=sys.stderr)
        return 2
    outcomes = run(vectors)
    by_status = {status: [item for item in outcomes if item.status is status] for status in Status}
    for status in (Status.UNSUPPORTED, Status.FAILED):
        for outcome in by_status[status]:
            print(f"{status}: {outcome.vector_id}: {outcome.detail}")
    print(", ".join(f"{len(by_status[status])} {status}" for status in Status))
    return 1 if by_status[Status.FAILED] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
