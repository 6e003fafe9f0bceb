"""An on-disk queue between a producer and Steelyard: see Spool and docs/spool.md."""

from steelyard.spool.errors import (
    SpoolClosed,
    SpoolCorrupt,
    SpoolError,
    SpoolFormatNewer,
    SpoolFull,
    SpoolOfOther,
    SpoolUnavailable,
)
from steelyard.spool.settings import SpoolOptions, WhenFull
from steelyard.spool.spool import Spool
from steelyard.spool.stats import DeadLetter, Depth, SpoolStats

__all__ = [
    "DeadLetter",
    "Depth",
    "Spool",
    "SpoolClosed",
    "SpoolCorrupt",
    "SpoolError",
    "SpoolFormatNewer",
    "SpoolFull",
    "SpoolOfOther",
    "SpoolOptions",
    "SpoolStats",
    "SpoolUnavailable",
    "WhenFull",
]
