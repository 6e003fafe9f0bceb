"""The faults: what strikes during the usage of a run and during the closing of its month. Each heals what it broke."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.faults.driver.crash_places import CRASHES, IN_THE_MONTH_ONLY
from tests.faults.driver.history import History
from tests.faults.driver.proxy import Condition
from tests.faults.driver.world import NATS, POSTGRES, World
from tests.faults.inside.switches import Setting

INGEST = ("ingest-accept", "ingest-record", "ingest-query", "ingest-maintain")
MONEY = ("rating", "billing", "payments")
SERVERS = (POSTGRES, NATS)

_CRASH_PATIENCE_S = 20.0


@dataclass
class Strike:
    """What a fault works with; `hit` names what it did, for the totals."""

    world: World
    random: random.Random
    history: History
    hit: list[str] = field(default_factory=list)

    def tell(self, what: str, **data: object) -> None:
        """Note in the history what is being done."""
        self.hit.append(what)
        self.history.note("fault", fault=what, **data)

    async def rest(self, least_s: float, most_s: float) -> None:
        """Wait for a random time."""
        await asyncio.sleep(self.random.uniform(least_s, most_s))


Act = Callable[[Strike], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """What strikes while usage flows, and what while the month is closed and paid."""

    name: str
    usage: Act | None = None
    month: Act | None = None
    repair: bool = False
    """Whether the queue loses what was acknowledged, so that producers have to send it again and holds be lifted."""


async def kill(strike: Strike, victim: str) -> None:
    """`kill -9`; a server comes back on its data after a moment."""
    strike.tell(f"kill {victim}")
    await asyncio.to_thread(strike.world.kill, victim)
    if victim in strike.world.servers:
        await strike.rest(0.2, 1.0)
        await asyncio.to_thread(strike.world.start_server, victim)


async def pause(strike: Strike, victim: str) -> None:
    """SIGSTOP for one to four seconds."""
    strike.tell(f"stop {victim}")
    strike.world.pause(victim)
    await strike.rest(1.0, 4.0)
    strike.world.resume(victim)


async def cut(strike: Strike, link: str) -> None:
    """Cut a link, or make it half open, for a moment."""
    condition = strike.random.choice([Condition(cut=True), Condition(to_server=False), Condition(to_client=False)])
    strike.tell(f"{'cut' if condition.cut else 'half open'} {link}")
    strike.world.proxy.put(link, condition)
    await strike.rest(0.5, 2.5)
    strike.world.proxy.put(link, Condition())


async def crash(strike: Strike, process: str, point: str) -> None:
    """Have a process die at a named point, and insist that it did: a point that is never reached tests nothing."""
    strike.tell(f"crash {process} at {point}")
    strike.world.set(process, Setting(crash_at=point))
    await until_crashed(strike, process, point)


async def until_crashed(strike: Strike, process: str, point: str) -> None:
    """Wait until a process that is armed has died at its point.

    :raises AssertionError: if it never got there
    """
    deadline = time.monotonic() + _CRASH_PATIENCE_S
    while not strike.world.fired(process):
        if time.monotonic() > deadline:
            raise AssertionError(f"{process} never reached {point}")
        await asyncio.sleep(0.05)


def some(strike: Strike, victims: Sequence[str], count: int) -> list[str]:
    """Choose victims in a random order, each once."""
    return strike.random.sample(list(victims), min(count, len(victims)))


def each_of(act: Callable[[Strike, str], Awaitable[None]], victims: Sequence[str], count: int) -> Act:
    """One after another, so many of the victims, with a moment between them."""

    async def strike_each(strike: Strike) -> None:
        for victim in some(strike, victims, count):
            await strike.rest(0.2, 1.0)
            await act(strike, victim)

    return strike_each


async def cut_links(strike: Strike) -> None:
    """Two links at a time."""
    for _ in range(2):
        proxy = strike.world.proxy
        used = [link for link in proxy.links if proxy.connections(link)]
        await asyncio.gather(*(cut(strike, link) for link in some(strike, used, 2)))


async def slow_links(strike: Strike) -> None:
    """Every link is late and thin for some seconds."""
    strike.tell("slow links")
    for link in strike.world.proxy.links:
        slow = Condition(delay_s=strike.random.uniform(0.005, 0.05), bytes_per_s=strike.random.choice([0, 100_000]))
        strike.world.proxy.put(link, slow)
    await strike.rest(3.0, 5.0)
    await asyncio.to_thread(strike.world.proxy.heal)


def crashes(*, month: bool, count: int) -> Act:
    """Random crash points, one after another, among those that this phase reaches."""
    places = [
        (process, part, point)
        for process, parts in CRASHES.items()
        for part, points in parts.items()
        for point in points
        if ((process, part) in IN_THE_MONTH_ONLY) == month
    ]

    async def strike_some(strike: Strike) -> None:
        chosen: dict[str, str] = {}
        for process, part, point in strike.random.sample(places, len(places)):
            if len(chosen) < count:
                # A relay that had to wait publishes much at once: a third time may never come.
                nth = 1 if month else strike.random.randint(1, 2)
                chosen.setdefault(process, f"{part}/{point}:{nth}")
        await asyncio.gather(*(crash(strike, *place) for place in chosen.items()))

    return strike_some


async def disorder(strike: Strike) -> None:
    """Deliveries come twice, late, in another order; batches and state are published twice."""
    strike.tell("disorder")
    chaos = {"duplicate": 0.3, "hold_back": 0.2, "hold_back_s": 0.4, "republish": 0.3}
    for name in strike.world.names:
        strike.world.set(name, Setting(chaos=chaos))
    await strike.rest(4.0, 5.0)
    for name in strike.world.names:
        strike.world.set(name, Setting())


def postgres_down(least_s: float) -> Act:
    """PostgreSQL is away; usage has to be taken all the same."""

    async def strike_postgres(strike: Strike) -> None:
        strike.tell("postgres down", seconds=least_s)
        await asyncio.to_thread(strike.world.kill, POSTGRES)
        strike.history.note("postgres_down")
        await asyncio.sleep(least_s)
        strike.history.note("postgres_up")
        await asyncio.to_thread(strike.world.start_server, POSTGRES)

    return strike_postgres


async def disk_full(strike: Strike) -> None:
    """Nothing that NATS writes fits any more; then there is room again, and it is restarted, as it has to be.

    A limit on the size of files does what a full disk does, for root and for everybody else; see docs/faults.md.
    """
    strike.tell("disk full")
    server = strike.world.servers[NATS]
    resource.prlimit(server.child.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    strike.history.note("disk_full")
    await strike.rest(2.5, 3.5)
    resource.prlimit(server.child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # What was refused stays refused until then (measured; reliability of the store, not of ours).
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(strike.world.start_server, NATS)
    strike.history.note("disk_free")


async def double(strike: Strike) -> None:
    """Two different faults at the same time, twice."""
    world = strike.world
    used = [link for link in world.proxy.links if world.proxy.connections(link)]
    acts: list[Callable[[], Awaitable[None]]] = [
        lambda: kill(strike, strike.random.choice((*INGEST, *MONEY))),
        lambda: kill(strike, strike.random.choice(SERVERS)),
        # Not a server: a killed PostgreSQL whose sessions are stopped would keep its memory and not start again.
        lambda: pause(strike, strike.random.choice((*INGEST, *MONEY))),
        lambda: cut(strike, strike.random.choice(used)),
    ]
    for _ in range(2):
        await strike.rest(0.2, 0.6)
        await asyncio.gather(*(act() for act in strike.random.sample(acts, 2)))


async def kill_nodes(strike: Strike) -> None:
    """One of three NATS servers dies, then two at once: the first costs nothing, the second stops the queue a while."""
    nodes = sorted(set(strike.world.servers) - {POSTGRES})
    await kill(strike, strike.random.choice(nodes))
    await strike.rest(0.5, 1.0)
    await asyncio.gather(*(kill(strike, node) for node in some(strike, nodes, 2)))
    await pause(strike, strike.random.choice(nodes))


async def wipe_queue(strike: Strike, *, with_acceptors: bool = False) -> None:
    """NATS loses all that it has stored while recorders are behind; then services are restarted, as the runbook says.

    What acceptors send under their old epochs afterwards shows the gap. `with_acceptors`: they die with the queue, so
    that nothing ever shows what they sent last.
    """
    world = strike.world
    world.pause("ingest-record")
    await strike.rest(0.8, 1.2)
    strike.tell("wipe nats")
    strike.history.note("queue_lost")
    if with_acceptors:
        world.kill("ingest-accept")
    await asyncio.to_thread(world.wipe_nats)
    world.resume("ingest-record")
    for name in ("ingest-record", "ingest-query", "ingest-maintain", *MONEY):
        world.kill(name)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(world.wait_until_up)


async def wipe_queue_and_acceptors(strike: Strike) -> None:
    """The queue and its acceptors die together, as on one machine."""
    await wipe_queue(strike, with_acceptors=True)


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("none"),
        Fault("kill-ingest", each_of(kill, INGEST, 3)),
        Fault("kill-money", each_of(kill, MONEY, 3), each_of(kill, MONEY, 3)),
        Fault("kill-postgres", each_of(kill, (POSTGRES,), 1), each_of(kill, (POSTGRES,), 1)),
        Fault("kill-nats", each_of(kill, (NATS,), 1), each_of(kill, (NATS,), 1)),
        Fault("stop", each_of(pause, (*INGEST, *MONEY, *SERVERS), 2), each_of(pause, (*MONEY, *SERVERS), 2)),
        Fault("cut-links", cut_links, cut_links),
        Fault("slow-links", slow_links, slow_links),
        Fault("crash", crashes(month=False, count=3), crashes(month=True, count=2)),
        Fault("disorder", disorder, disorder),
        Fault("double", double, double),
        Fault("disk-full", disk_full),
        Fault("wiped-queue", wipe_queue, repair=True),
        Fault("wiped-queue-and-acceptors", wipe_queue_and_acceptors, repair=True),
        Fault("kill-nodes", kill_nodes, kill_nodes),
        Fault("postgres-down", postgres_down(10.0)),
        Fault("postgres-down-a-minute", postgres_down(60.0)),
    )
}
