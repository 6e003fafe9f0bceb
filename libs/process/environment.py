"""Settings from environment variables, with every fault reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class ConfigError(Exception):
    """The settings cannot be used; the message names every missing or wrong one."""


class Environment:
    """Read settings, remember what is missing or wrong, and say it all in one error.

    A reader that meets a fault returns a placeholder, so that one run finds every fault; call `check` before using any
    value. A variable that is set to nothing counts as not set. Messages never repeat a value: it may be a secret.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """Return the text of a setting; without a default the setting is required."""
        value = self._values.get(name, "").strip()
        if value:
            return value
        if default is None:
            self._problems.append(f"{name} is missing")
            return ""
        return default

    def integer(self, name: str, default: int | None = None, *, minimum: int = 0, maximum: int | None = None) -> int:
        """Return a whole number that is at least `minimum` and, if there is one, at most `maximum`."""
        text = self.text(name, None if default is None else str(default))
        if not text:
            return 0
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) < minimum:
            self._problems.append(f"{name} must be a whole number of at least {minimum}")
            return 0
        if maximum is not None and int(text) > maximum:
            self._problems.append(f"{name} must be at most {maximum}")
            return 0
        return int(text)

    def duration_s(self, name: str, default: float | None = None) -> float:
        """Return seconds; written as `30`, `0.5`, `250ms`, `30s`, `5m`, `2h` or `7d`."""
        text = self.text(name, None if default is None else str(default))
        if not text:
            return 0.0
        match = _DURATION.fullmatch(text)
        if match is None:
            self._problems.append(f"{name} must be a duration such as 30s or 250ms")
            return 0.0
        return float(match[1]) * _SECONDS[match[2] or "s"]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return whether something is switched on: 1, true, yes, on or 0, false, no, off."""
        text = self.text(name, "1" if default else "0").lower()
        if text not in _FLAGS:
            self._problems.append(f"{name} must be 1 or 0")
            return default
        return _FLAGS[text]

    def url(self, name: str, *schemes: str, default: str | None = None) -> str:
        """Return a URL whose scheme is one of `schemes` (any scheme if none are named)."""
        text = self.text(name, default)
        if not text:
            return text
        parts = urlsplit(text)
        # A PostgreSQL URL may name a unix socket in its query and then has no host.
        complete = "://" in text and bool(parts.netloc or parts.query)
        if not complete or (schemes and parts.scheme not in schemes):
            self._problems.append(f"{name} must be a URL such as {(schemes or ('https',))[0]}://host:port")
            return ""
        return text

    def check(self) -> None:
        """Raise if any setting read so far was missing or wrong.

        :raises ConfigError: naming all of them, in the order in which they were read
        """
        if self._problems:
            raise ConfigError("; ".join(dict.fromkeys(self._problems)))
