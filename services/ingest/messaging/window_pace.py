"""How often windows are published."""

from __future__ import annotations

from libs.outbox import StepPace

_UNDER_LOAD = StepPace(shortest_s=0.1, longest_s=1.5, factor=6)
_SHARE_OF_LAG = 0.25
_LONGEST_S = 5.0


class WindowPace:
    """Rests longer the further recording is behind.

    Everything behind the relay pays for every publication of a window. When recording lags, a window that is published
    now changes again at once and nothing in it is new, so the relay leaves the time to the recorders: what is seen
    gets older by a share of the lag and the lag gets shorter.
    """

    def __init__(self) -> None:
        self._lag_s = 0.0

    def recorded(self, lag_s: float) -> None:
        """Hear how old the newest event of a chunk was when it had been recorded."""
        self._lag_s = lag_s

    def rest_s(self, took_s: float) -> float:
        return max(_UNDER_LOAD.rest_s(took_s), min(self._lag_s * _SHARE_OF_LAG, _LONGEST_S))
