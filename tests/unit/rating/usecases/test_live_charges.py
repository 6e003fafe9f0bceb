"""What a stream of charges still has to send."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.errors import ServiceError
from services.rating.domain.live_charge import ChargeKey, ChargeWatch, LiveCharge, in_messages
from services.rating.usecases.live_charges import (
    ChargesInterrupted,
    ChargeSubscription,
    LiveCharges,
    TooManyCharges,
    TooMuchWatched,
    WatchedCharges,
)

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALL = ChargeWatch("acme", frozenset(), frozenset(), MARCH)


def charge(version: int, *, price: str = "tokens", subscription: str = "sub-1", customer: str = "c") -> LiveCharge:
    return LiveCharge(ChargeKey(subscription, MARCH, price), customer, APRIL, version, f"{price} {version}".encode())


def subscription(watch: ChargeWatch = ALL, most: int = 10, watched: WatchedCharges | None = None) -> ChargeSubscription:
    return ChargeSubscription(watch, watched or WatchedCharges(), most)


def taken(of: ChargeSubscription) -> list[tuple[str, int]]:
    return [(item.key.price_id, item.version) for item in of.take()[0]]


class TestWatch:
    @pytest.mark.parametrize(
        ("watch", "has"),
        [
            (ALL, True),
            (replace(ALL, customer_ids=frozenset({"c", "d"})), True),
            (replace(ALL, customer_ids=frozenset({"d"})), False),
            (replace(ALL, subscription_ids=frozenset({"sub-1"})), True),
            (replace(ALL, subscription_ids=frozenset({"sub-2"})), False),
            (replace(ALL, ending_after=APRIL - HOUR), True),
            (replace(ALL, ending_after=APRIL), False),
            (replace(ALL, starting_before=MARCH + HOUR), True),
            (replace(ALL, starting_before=MARCH), False),
        ],
        ids=[
            "all",
            "customer",
            "other customer",
            "subscription",
            "other subscription",
            "ends later",
            "is over",
            "has begun",
            "begins later",
        ],
    )
    def test_what_is_watched(self, watch: ChargeWatch, has: bool) -> None:
        assert watch.has(charge(1)) is has


class TestNewestWins:
    def test_of_many_changes_the_newest_is_kept(self) -> None:
        slow = subscription()
        for version in (1, 2, 3):
            slow.offer([charge(version), charge(version + 10, price="fee")])

        assert taken(slow) == [("tokens", 3), ("fee", 13)]
        assert taken(slow) == []

    def test_what_is_not_newer_is_left_out(self) -> None:
        live = subscription()
        live.offer([charge(5)])
        assert taken(live) == [("tokens", 5)]

        live.offer([charge(5), charge(4)])

        assert taken(live) == []

    def test_a_stored_charge_gives_way_to_a_newer_change(self) -> None:
        live = subscription()
        live.offer([charge(5)])

        assert live.unseen([charge(4)]) == []
        assert taken(live) == [("tokens", 5)]

    def test_a_newer_stored_charge_replaces_a_change(self) -> None:
        live = subscription()
        live.offer([charge(5)])

        assert live.unseen([charge(6)]) == [charge(6)]
        assert taken(live) == []
        live.offer([charge(5)])
        assert taken(live) == []

    @pytest.mark.parametrize("seed", range(20))
    def test_in_any_order_versions_grow_and_the_last_one_comes(self, seed: int) -> None:
        chance = random.Random(seed)
        live, sent = subscription(), list[int]()
        offers = [1, 2, 3, 4, 5, 3, 5, 1]
        chance.shuffle(offers)
        for version in offers:
            if chance.random() < 0.3:
                sent += [item.version for item in live.unseen([charge(version)])]
            else:
                live.offer([charge(version)])
            if chance.random() < 0.5:
                sent += [version for _, version in taken(live)]
        sent += [version for _, version in taken(live)]

        assert sent == sorted(set(sent))
        assert sent[-1] == 5

    def test_what_is_known_stays_watched_when_its_period_ends_earlier(self) -> None:
        live = subscription(replace(ALL, ending_after=APRIL - HOUR))
        live.unseen([charge(1)])

        live.offer([replace(charge(2), period_end=MARCH + HOUR), replace(charge(2, price="fee"), period_end=MARCH)])

        assert taken(live) == [("tokens", 2)]


class TestLimits:
    def test_a_stream_watches_so_many_charges_and_ends_at_one_more(self) -> None:
        live = subscription(most=2)
        live.offer([charge(1), charge(1, price="fee"), charge(2)])
        live.check()

        live.offer([charge(1, price="third")])

        with pytest.raises(TooManyCharges):
            live.check()

    def test_all_streams_together_watch_so_many_until_one_leaves(self) -> None:
        watched = WatchedCharges(3)
        first, second = subscription(watched=watched), subscription(watched=watched)
        first.offer([charge(1), charge(1, price="fee")])
        second.offer([charge(1)])
        with pytest.raises(TooMuchWatched):
            second.unseen([charge(1, price="fee")])

        first.leave()
        second.leave()

        assert watched.count == 0

    def test_messages_are_cut_by_number_and_size(self) -> None:
        small, large = charge(1), replace(charge(2), content=b"x" * 600_000)

        assert [len(part) for part in in_messages([small] * 1001)] == [500, 500, 1]
        assert [len(part) for part in in_messages([large, small, large, replace(large, content=b"x" * 2_000_000)])] == [
            2,
            1,
            1,
        ]
        assert list(in_messages([])) == []


class TestWatermark:
    def test_it_holds_with_what_is_taken_and_never_goes_back(self) -> None:
        live = subscription()
        assert live.take() == ([], None)
        live.passed(MARCH + HOUR)
        live.passed(MARCH)

        assert live.take() == ([], MARCH + HOUR)


class TestSubscribed:
    async def test_charges_go_to_those_of_their_tenant(self) -> None:
        live_charges = LiveCharges()
        live_charges.follow()
        other_tenant = replace(ALL, tenant_id="initech")
        async with live_charges.subscribed(ALL) as own, live_charges.subscribed(other_tenant) as other:
            live_charges.offer("acme", [charge(1)])

            assert (taken(own), taken(other)) == ([("tokens", 1)], [])
            assert (live_charges.watches("acme"), live_charges.watches("umbrella")) == (True, False)
        assert not live_charges.watches("acme")
        assert live_charges.watched_count == 0

    async def test_watermarks_pass_tenants_that_are_held(self) -> None:
        live_charges = LiveCharges()
        live_charges.follow()
        async with live_charges.subscribed(ALL) as early:
            live_charges.passed(MARCH, {})
            live_charges.passed(APRIL, {"acme": "a batch is missing"})
            async with live_charges.subscribed(ALL) as late, live_charges.subscribed(replace(ALL, tenant_id="b")) as b:
                assert [item.take()[1] for item in (early, late, b)] == [MARCH, None, APRIL]

    async def test_it_waits_until_changes_arrive(self) -> None:
        live_charges = LiveCharges()

        async def subscribe() -> Sequence[tuple[str, int]]:
            async with live_charges.subscribed(ALL) as live:
                live_charges.offer("acme", [charge(1)])
                return taken(live)

        subscribing = asyncio.create_task(subscribe())
        await asyncio.wait_for(live_charges.wanted.wait(), 5)
        assert not subscribing.done()
        live_charges.follow()

        assert await subscribing == [("tokens", 1)]
        assert not live_charges.wanted.is_set()

    async def test_it_does_not_wait_for_ever(self) -> None:
        live_charges = LiveCharges(within_s=0.01)

        with pytest.raises(ChargesInterrupted):
            async with live_charges.subscribed(ALL):
                pass
        assert not live_charges.wanted.is_set()

    async def test_an_interruption_ends_it_and_it_stays_ended(self) -> None:
        live_charges = LiveCharges()
        live_charges.follow()
        async with live_charges.subscribed(ALL) as live:
            waiting = asyncio.create_task(live.wait(60))
            await asyncio.sleep(0)
            live_charges.interrupt("lost")
            await waiting
            live_charges.follow()
            live_charges.offer("acme", [charge(1)])

            with pytest.raises(ChargesInterrupted):
                live.check()
            assert taken(live) == []

    async def test_who_came_just_before_an_interruption_ends_too(self) -> None:
        live_charges = LiveCharges()

        async def subscribe() -> ServiceError | None:
            async with live_charges.subscribed(ALL) as live:
                try:
                    live.check()
                except ServiceError as error:
                    return error
            return None

        subscribing = asyncio.create_task(subscribe())
        await asyncio.sleep(0)
        live_charges.follow()
        live_charges.interrupt("lost")

        assert isinstance(await subscribing, ChargesInterrupted)
