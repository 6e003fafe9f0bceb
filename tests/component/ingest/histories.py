"""Random histories of a tenant: usage, corrections, and meters that come, change and end, in any order."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from libs.database import Database
from services.ingest.domain.meter import Meter
from services.ingest.store.meter_changes import PostgresMeterChanges
from services.ingest.store.meters import PostgresMeterStore
from services.ingest.usecases.change_meter import MeterChange
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, a_batch, add_meters
from tests.component.ingest.correcting import Corrector, key
from tests.component.ingest.metering import jobs

_EVENTS_OF_A_BATCH = 9


class History:
    """Plays moves of its dice for the tenant `acme`; knows what counts, and which meters have ended.

    `late` are the meters that are made one by one on the way.
    """

    def __init__(
        self, dice: random.Random, record: RecordUsage, api: Database, worker: Database, late: Sequence[Meter]
    ) -> None:
        self.dice = dice
        self.events = {event.event_id: event for event in jobs(dice.randrange(10**6), 120)}
        self.effective = dict(self.events)
        self.ended: set[str] = set()
        self._unsent = list(self.events)
        self.late = list(late)
        self._made: list[str] = []
        self._record = record
        self._api = api
        self._changes = PostgresMeterChanges(api)
        self._corrector = Corrector(api, worker)
        self._corrector.rules.tenant_now = NOON + timedelta(days=30)
        self._number = 0

    async def begin(self, meters: Sequence[Meter]) -> None:
        await add_meters(self._api, *meters)
        self._made += [meter.meter_id for meter in meters]

    async def play(self, moves: int, *, meters_change: bool = True) -> None:
        """Make so many moves."""
        kinds = ["send", "send", "send", "resend", "void", "replace"] + ["rename", "end", "make"] * meters_change
        for _ in range(moves):
            await self._move(self.dice.choice(kinds))

    async def make(self) -> None:
        """Make the next of the late meters."""
        await self.begin([self.late.pop()])

    async def finish(self) -> None:
        """Send what has not been sent."""
        while self._unsent:
            await self._move("send")

    async def _move(self, kind: str) -> None:
        self._number += 1
        chosen = self.dice.sample(sorted(self.events), 5)
        match kind:
            case "send":
                sent, self._unsent = self._unsent[:_EVENTS_OF_A_BATCH], self._unsent[_EVENTS_OF_A_BATCH:]
                await self._send(sent)
            case "resend":
                await self._send([name for name in chosen if name not in self._unsent])
            case "void":
                results = await self._corrector.void(*map(key, chosen))
                for name, result in zip(chosen, results, strict=True):
                    if result.outcome in ("applied", "waiting"):
                        del self.effective[name]
            case "replace":
                await self._replace(chosen)
            case "rename":
                await self._rename(self.dice.choice(self._made))
            case "end":
                await self._end(self.dice.choice(self._made))
            case "make" if self.late:
                await self.make()

    async def _send(self, names: Sequence[str]) -> None:
        events = [self.events[name] for name in names]
        # Each of an acceptor of its own, so that none has to be the next one.
        at = NOON + timedelta(seconds=self._number)
        await self._record([a_batch(self._number, *events, epoch=f"epoch-{self._number}", received_at=at)])

    async def _replace(self, names: Sequence[str]) -> None:
        pairs = []
        for name in names:
            other = self.dice.choice(list(self.events.values()))
            event = other._replace(event_id=f"{name}-{self._number}")
            pairs.append((key(name), event))
        for name, (_, event), result in zip(names, pairs, await self._corrector.replace(*pairs), strict=True):
            if result.outcome == "applied":
                del self.effective[name]
                self.events[event.event_id] = self.effective[event.event_id] = event

    async def _rename(self, meter_id: str) -> None:
        meter = await PostgresMeterStore(self._api).get("acme", meter_id)
        renamed = replace(meter, display_name=f"Name {self._number}")
        await self._changes.update(self._change(meter_id), renamed, 0, NOON + timedelta(seconds=self._number))

    async def _end(self, meter_id: str) -> None:
        # Most are to live.
        if meter_id in self.ended or len(self.ended) == 4:
            return
        self.ended.add(meter_id)
        await self._changes.archive(self._change(meter_id), NOON + timedelta(seconds=self._number))

    def _change(self, meter_id: str) -> MeterChange:
        return MeterChange("acme", str(uuid.uuid4()), b"", "key-1", meter_id)
