from __future__ import annotations

import pytest

from services.payments.domain.retries import DEFAULT_MAX_CARD_TRIES, CardHistory, Verdict

MAX = DEFAULT_MAX_CARD_TRIES


class TestCardHistory:
    def test_is_not_above_what_any_card_network_bears(self) -> None:
        assert MAX <= 15

    @pytest.mark.parametrize(
        ("history", "begun", "verdict"),
        [
            (CardHistory(), 0, Verdict.TRY),
            (CardHistory(soft_declines=MAX - 1), 0, Verdict.TRY),
            (CardHistory(soft_declines=MAX), 0, Verdict.NEVER),
            (CardHistory(soft_declines=MAX, under_way=3), 3, Verdict.NEVER),
            (CardHistory(soft_declines=MAX - 1), 1, Verdict.WAIT),
            (CardHistory(soft_declines=MAX - 1, under_way=1), 0, Verdict.WAIT),
            (CardHistory(under_way=MAX - 2), 1, Verdict.TRY),
            (CardHistory(under_way=MAX), 0, Verdict.WAIT),
            (CardHistory(hard_declined=True), 0, Verdict.NEVER),
        ],
    )
    def test_says_what_may_be_done(self, history: CardHistory, begun: int, verdict: Verdict) -> None:
        assert history.verdict(MAX, begun=begun) is verdict
