"""How far a file was answered, kept beside it while it is being sent, so that sending it can go on there."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.cli.event_rows import START, Mark
from libs.cli.output import note
from steelyard import Verdict

_SUFFIX = ".sending"
_VERSION = 1
_EDGE_BYTES = 1 << 16
_SAVE_EVERY_S = 0.5
_MOST_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Answered:
    """Where the unanswered events begin, and what became of those before."""

    mark: Mark
    counts: Counter[Verdict]


class NothingToResume(ValueError):
    """There is no earlier sending of the same content that this one could go on with; the message says why."""


class ResumeFile:
    """The state `FILE.sending` of a file. It names the file's content, the key it is sent with and the options, and is
    of use only where all of them are the same: a tenant must not miss what another one got.

    Losing it loses no event: what is sent twice counts once.
    """

    def __init__(self, file: Path, api_key: str, options: Mapping[str, str]) -> None:
        """
        :raises OSError: if the file cannot be read
        """
        self.path = file.with_name(file.name + _SUFFIX)
        digest = hashlib.blake2b(api_key.encode(), digest_size=16, person=b"steelyard send")
        self._identity = {**_fingerprint(file), "key": digest.hexdigest(), "options": dict(options)}
        self._saved_at = 0.0
        self._can_save = True

    def load(self) -> Answered:
        """
        :raises NothingToResume: if there is no state, or that of something else
        """
        try:
            with self.path.open("rb") as file:
                saved = json.loads(file.read(_MOST_BYTES))
            identity = saved.pop("sent")
            answered = _answered(saved)
        except FileNotFoundError as error:
            raise NothingToResume("no earlier sending of it was interrupted") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise NothingToResume(f"{self.path} cannot be read") from error
        for name, value in self._identity.items():
            if not isinstance(identity, dict) or identity.get(name) != value:
                raise NothingToResume(f"{self.path} is of another sending: {_OTHER.get(name, 'the file has changed')}")
        return answered

    def save(self, answered: Answered, *, is_last: bool = False) -> bool:
        """Write the state down, now and then, or surely if it is the last time; return whether that is possible."""
        now = time.monotonic()
        if not self._can_save or (now - self._saved_at < _SAVE_EVERY_S and not is_last):
            return self._can_save
        counts = {verdict.name: count for verdict, count in answered.counts.items()}
        state = {"sent": self._identity, "offset": answered.mark.offset, "line": answered.mark.line, "counts": counts}
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(state))
            partial.replace(self.path)
        except OSError as error:
            self._can_save = False
            note(f"it cannot be noted how far it is sent, so a second try starts over: {error}")
        self._saved_at = now
        return self._can_save

    def remove(self) -> None:
        """Forget it: everything is answered."""
        if self._can_save:
            self.path.unlink(missing_ok=True)


_OTHER = {"key": "another API key", "options": "other options", "version": "another version of this command"}


def _answered(saved: Mapping[str, Any]) -> Answered:
    mark = Mark(saved["offset"], saved["line"])
    counts = Counter({Verdict[name]: count for name, count in saved["counts"].items()})
    if any(type(value) is not int or value < 0 for value in (*mark, *counts.values())) or mark < START:
        raise ValueError("not a state")
    return Answered(mark, counts)


def _fingerprint(path: Path) -> dict[str, object]:
    """What tells a file's content from another's: size, time of change, and a hash of both ends."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.blake2b(file.read(_EDGE_BYTES), digest_size=16)
        file.seek(max(status.st_size - _EDGE_BYTES, 0))
        digest.update(file.read(_EDGE_BYTES))
    return {
        "version": _VERSION,
        "size": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "edges": digest.hexdigest(),
    }
