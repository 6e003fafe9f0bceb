"""What every service process shares: settings, signals, and long-lived tasks that live or die together."""

from libs.process.environment import ConfigError, Environment
from libs.process.garbage import collect_rarely
from libs.process.supervise import PartEndedError, stop_on_signals, supervise

__all__ = ["ConfigError", "Environment", "PartEndedError", "collect_rarely", "stop_on_signals", "supervise"]
