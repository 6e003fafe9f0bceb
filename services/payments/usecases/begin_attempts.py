"""Begin the attempts that are due: commit each with its key before anything is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.payments.domain.attempt import Attempt
from services.payments.domain.payment import Payment, PaymentState
from services.payments.domain.retries import CARD_WINDOW, Verdict
from services.payments.usecases import metrics
from services.payments.usecases.ports import (
    Card,
    OpenPayment,
    PaymentKey,
    Task,
    TaskKind,
    TenantTimes,
    UnitOfWork,
    Work,
)

CLAIM = timedelta(seconds=30)
"""How long a process that died keeps what it had taken."""


@dataclass(frozen=True, slots=True)
class BeginAttempts:
    """One transaction for a chunk of payments.

    A card is tried as often as card networks bear (see domain/retries.py), whatever its payments ask for: their
    customers are locked, so that nobody counts beside us.
    """

    unit_of_work: UnitOfWork
    times: TenantTimes
    max_card_tries: int

    async def __call__(
        self, keys: Sequence[PaymentKey], now: datetime, *, is_confirmed: bool = False
    ) -> list[tuple[Payment, Attempt]]:
        """Return the payments that are due with the attempts that were begun for them; `now` is real time.

        Unless it is confirmed that there is nothing to wait for, those whose last attempt a person has declared failed
        come with this last attempt instead: the gateway is to be asked once more before it is charged again.
        """
        async with self.unit_of_work(*{tenant_id for tenant_id, _ in keys}) as work:
            due = [
                item
                for item in await work.payments.lock_open(keys, to_begin=True)
                if item.payment.state is PaymentState.SCHEDULED  # Else somebody was faster; see TaskKind.
            ]
            doubtful = [] if is_confirmed else [item for item in due if item.payment.rests_on_a_person(item.attempt)]
            begun = await self._begin(work, [item for item in due if item not in doubtful], now)
        return begun + [(item.payment, item.attempt) for item in doubtful if item.attempt is not None]

    async def _begin(self, work: Work, due: Sequence[OpenPayment], now: datetime) -> list[tuple[Payment, Attempt]]:
        begun: list[tuple[Payment, Attempt]] = []
        waiting = [item.payment.without_method() for item in due if not item.gateway_token]
        with_card = [(item, _card(item)) for item in due if item.gateway_token]
        histories = await work.attempts.card_histories(
            {card: self.times.now(card.tenant_id) - CARD_WINDOW for _, card in with_card}
        )
        tries = Counter[Card]()
        for item, card in with_card:
            verdict = histories[card].verdict(self.max_card_tries, begun=tries[card])
            if verdict is Verdict.TRY:
                tries[card] += 1
                tenant_now = self.times.now(card.tenant_id)
                begun.append(item.payment.begin(token=item.gateway_token, now=now, tenant_now=tenant_now))
            elif verdict is Verdict.NEVER:
                waiting.append(item.payment.without_method())
                metrics.WITHHELD.add(1)
            # Else the task stays: it is due again when our claim has run out.
        await work.payments.save([*waiting, *(payment for payment, _ in begun)])
        await work.attempts.add([(payment.tenant_id, attempt) for payment, attempt in begun])
        await work.tasks.remove([payment.key for payment in waiting])
        # Should we die before the outcome is stored, the gateway is asked when the claim has run out.
        await work.tasks.put({payment.key: Task(TaskKind.ASK, now + CLAIM) for payment, _ in begun})
        return begun


def _card(item: OpenPayment) -> Card:
    return Card(item.payment.tenant_id, item.payment.customer_id, item.gateway_token)
