"""What every process knows of billing's directory entries: API keys and tenants' clocks, in memory."""

from libs.directory.clocks import KnownClocks
from libs.directory.keys import KnownKeys

__all__ = ["KnownClocks", "KnownKeys"]
