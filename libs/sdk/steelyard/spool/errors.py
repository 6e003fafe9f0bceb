"""Errors of the spool.

SpoolError
├── SpoolFull          it holds max_bytes and its policy is to raise; the event was not taken
├── SpoolUnavailable   the disk is full, fails or is locked; `reason` says which; what is in it is not affected
├── SpoolCorrupt       the file is damaged, or is no spool
├── SpoolFormatNewer   the file was made by a newer version
├── SpoolOfOther       the file holds events of another tenant
└── SpoolClosed        the spool was closed before
"""

from __future__ import annotations

from steelyard.errors import SteelyardError


class SpoolError(SteelyardError):
    """Any failure of the spool itself; what a server answers are the other errors of the SDK."""


class SpoolFull(SpoolError):
    """It holds as much as it may, and WhenFull.RAISE says so to the caller. The event was not taken."""


class SpoolUnavailable(SpoolError):
    """The file cannot be used at present. `reason`: DISK_FULL, DISK_ERROR, LOCKED, NOT_WRITABLE or REPLACED.

    From `record`: the event was not taken. From `flush` and `record(durable=True)`: what was recorded is still in
    memory and is tried again; to record it once more under the same event id is safe.
    """


class SpoolCorrupt(SpoolError):
    """The file is damaged, or is not a spool. It is left as it is."""


class SpoolFormatNewer(SpoolError):
    """The file was made by a newer version of this package. It is left as it is."""


class SpoolOfOther(SpoolError):
    """The file holds the events of another tenant_id."""


class SpoolClosed(SpoolError):
    """The spool was closed before."""
