"""Take recorded usage back, also usage that has yet to arrive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from libs.clock import Clock
from services.ingest.domain.correction import (
    NOTHING_KNOWN,
    Correction,
    CorrectionKind,
    CorrectionOutcome,
    CorrectionResult,
    decide_voids,
)
from services.ingest.domain.event_key import EventKey
from services.ingest.usecases.corrections import CorrectionRequest, CorrectionStore, CorrectionTransactions


class VoidEvents:
    """Makes events count no more, and those that are not there yet never count."""

    def __init__(self, *, transactions: CorrectionTransactions, clock: Clock, new_id: Callable[[], str]) -> None:
        self._transactions = transactions
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, request: CorrectionRequest, keys: Sequence[EventKey]) -> list[CorrectionResult]:
        """Return a result per key, in order.

        :raises InvalidInput: naming what is wrong; nothing is stored
        :raises RequestIdReused: if the id came with another request before
        """
        request.check(keys, "keys[{}]")
        correction_id, now = self._new_id(), self._clock()
        correction = Correction(CorrectionKind.VOID, None, request.reason, request.actor, request.api_key_id, now)
        voided = await self._void_unknown(request, set(keys), correction_id, correction)
        async with self._transactions(request.tenant_id) as store:
            answered = await store.begin(request, correction_id, now)
            if answered is not None:
                return answered
            results = await _decide(store, keys, voided)
            applied = _with(CorrectionOutcome.APPLIED, keys, results)
            waiting = [key for key in _with(CorrectionOutcome.WAITING, keys, results) if key not in voided]
            await store.add(correction_id, dict.fromkeys([*applied, *waiting], correction), waiting)
            if applied:
                meters = (await store.recording.meters([request.tenant_id])).get(request.tenant_id, ())
                await store.recompute_windows(meters, applied, (), now)
            await store.answer(correction_id, results)
        return results

    async def _void_unknown(
        self, request: CorrectionRequest, keys: Collection[EventKey], correction_id: str, correction: Correction
    ) -> Collection[EventKey]:
        """Void what nobody knows beside others, in a transaction of its own; return it.

        Recorders have to wait for that, but not for the windows of the others, which may take long. Should this
        process die in between, the request that is sent again finds these events void already.
        """
        if len(keys) == 1:
            return ()
        async with self._transactions(request.tenant_id) as store:
            if await store.was_answered(request):
                return ()
            known = await store.known(keys)
            if len({event.is_missing for event in known.values()}) == 1:
                return ()
            await store.wait_for_others()
            await store.hold_recorders()
            known = await store.known(keys)
            missing = [key for key in known if known[key].is_missing]
            await store.add(correction_id, dict.fromkeys(missing, correction), missing)
        return set(missing)


async def _decide(
    store: CorrectionStore, keys: Sequence[EventKey], voided: Collection[EventKey]
) -> list[CorrectionResult]:
    """`voided` are those that this request has voided before."""
    distinct = set(keys).difference(voided)
    known = await store.known(distinct)
    if any(event.is_missing for event in known.values()):
        # A recorder may have such an event in its open transaction, where neither of us sees what the other one adds.
        await store.hold_recorders()
        known = await store.known(distinct)
    return decide_voids(keys, {**known, **dict.fromkeys(voided, NOTHING_KNOWN)})


def _with(outcome: CorrectionOutcome, keys: Sequence[EventKey], results: Sequence[CorrectionResult]) -> list[EventKey]:
    return [key for key, result in zip(keys, results, strict=True) if result.outcome is outcome]
