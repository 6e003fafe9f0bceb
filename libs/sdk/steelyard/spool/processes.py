"""What happens to open spools when the process forks or ends."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import TYPE_CHECKING

from steelyard.errors import SteelyardError

if TYPE_CHECKING:
    from steelyard.spool.spool import Spool

_LOGGER = logging.getLogger("steelyard")
_EXIT_PATIENCE_S = 5.0

_lock = threading.Lock()
_open: dict[int, Spool] = {}


def opened(spool: Spool) -> None:
    """Look after a spool until it is closed."""
    with _lock:
        _open[id(spool)] = spool


def closed(spool: Spool) -> None:
    with _lock:
        _open.pop(id(spool), None)


def _before_fork() -> None:
    _lock.acquire()  # None is opened or closed, and no other thread forks, until this one has.
    for spool in _open.values():
        spool.before_fork()


def _after_fork_in_parent() -> None:
    for spool in _open.values():
        spool.after_fork_in_parent()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for spool in _open.values():
        spool.after_fork_in_child()


def _close_all() -> None:
    """At the end of the program what is in memory goes to disk."""
    for spool in list(_open.values()):
        try:
            spool.close(_EXIT_PATIENCE_S)
        except SteelyardError:
            _LOGGER.exception("%s was not closed in good order", spool.path)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_close_all)
