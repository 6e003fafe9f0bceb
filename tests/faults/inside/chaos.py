"""Disorder of deliveries, made by the real server: `CHAOS='{"duplicate": 0.2, "hold_back": 0.2, "republish": 0.1}'`.

- duplicate: this share of messages is handled and then not acknowledged but asked for again at once.
- hold_back: this share is given back unhandled, to come up to `hold_back_s` later and so behind newer ones; what is
  fetched together is shuffled.
- republish: this share of usage batches and state messages is published once more under another message id, as a
  publisher would whose duplicate window has passed. (Facts keep their id: it is the key of the consumer's inbox.)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime

from nats.aio.msg import Msg

from libs.messaging.consumer import PullConsumer
from libs.messaging.publisher import JetStreamPublisher, Published
from tests.faults.inside.notes import DELIVERED_AGAIN, HELD_BACK, PUBLISHED_AGAIN, note
from tests.faults.inside.switches import Switches

_HOLD_BACK_S = 0.5
_REPUBLISHED = ("usage.raw.", "ingest.usage_window.", "rating.charge.", "billing.billing_period.")
_MESSAGE_ID = "Nats-Msg-Id"


def install(switches: Switches) -> None:
    """Put disorder between the server and this process's consumers, as far as the switches say."""
    random_ = random.Random(0)
    _disturb_fetching(switches, random_)
    _disturb_acknowledging(switches, random_)
    _disturb_publishing(switches, random_)


def _disturb_fetching(switches: Switches, random_: random.Random) -> None:
    process = PullConsumer._process

    async def disturbed(self: PullConsumer, messages: Sequence[Msg], epoch: datetime, stopping: asyncio.Event) -> None:
        chaos = switches.current().chaos
        share = chaos.get("hold_back", 0)
        kept: list[Msg] = []
        for message in messages:
            if message.metadata.num_delivered == 1 and random_.random() < share:
                note(HELD_BACK)
                await message.nak(chaos.get("hold_back_s", _HOLD_BACK_S) * (0.5 + random_.random() / 2))
            else:
                kept.append(message)
        if share:
            random_.shuffle(kept)
        if kept:
            await process(self, kept, epoch, stopping)

    PullConsumer._process = disturbed  # type: ignore[method-assign]


def _disturb_acknowledging(switches: Switches, random_: random.Random) -> None:
    ack = Msg.ack

    async def disturbed(self: Msg) -> None:
        share = switches.current().chaos.get("duplicate", 0)
        if share and self.metadata.num_delivered <= 2 and random_.random() < share:
            note(DELIVERED_AGAIN)
            await self.nak()
        else:
            await ack(self)

    Msg.ack = disturbed  # type: ignore[method-assign]


def _disturb_publishing(switches: Switches, random_: random.Random) -> None:
    send_until = JetStreamPublisher._send_until

    async def disturbed(
        self: JetStreamPublisher, ends_at: float, subject: str, payload: bytes, headers: dict[str, str]
    ) -> Published:
        published = await send_until(self, ends_at, subject, payload, headers)
        share = switches.current().chaos.get("republish", 0)
        if share and subject.startswith(_REPUBLISHED) and random_.random() < share:
            note(PUBLISHED_AGAIN)
            await send_until(self, ends_at, subject, payload, {**headers, _MESSAGE_ID: f"{headers[_MESSAGE_ID]}:again"})
        return published

    JetStreamPublisher._send_until = disturbed  # type: ignore[method-assign]
