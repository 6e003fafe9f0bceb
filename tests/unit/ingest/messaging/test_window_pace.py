from __future__ import annotations

import pytest

from services.ingest.messaging.window_pace import WindowPace


class TestWindowPace:
    @pytest.mark.parametrize(
        ("lag_s", "took_s", "rest_s"),
        [
            (0.0, 0.0, 0.1),
            (0.0, 0.1, 0.6),
            (0.0, 9.0, 1.5),
            (0.3, 0.0, 0.1),
            (1.0, 0.0, 0.25),
            (1.0, 0.1, 0.6),
            (8.0, 9.0, 2.0),
            (3_600.0, 0.0, 5.0),
        ],
    )
    def test_rests_for_a_share_of_the_lag_but_never_long(self, lag_s: float, took_s: float, rest_s: float) -> None:
        pace = WindowPace()
        pace.recorded(lag_s)
        assert pace.rest_s(took_s) == pytest.approx(rest_s)

    def test_hurries_again_when_recording_has_caught_up(self) -> None:
        pace = WindowPace()
        pace.recorded(60.0)
        pace.recorded(0.0)
        assert pace.rest_s(0.0) == pytest.approx(0.1)
