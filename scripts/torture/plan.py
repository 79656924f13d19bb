"""The plan of a run: its faults and its workload, made from a seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "CYCLE_SECONDS",
    "ROOMS",
    "ClientPlan",
    "Cycle",
    "FaultKind",
    "Kind",
    "Plan",
    "PlannedFault",
    "Step",
    "make_plan",
    "steps",
]

#: Seconds of a cycle in which faults begin and end. Then all is healed, and everybody must be
#: served again before the next cycle begins.
CYCLE_SECONDS = 14.0

#: Seconds that a whole cycle takes about, with the healing.
_WHOLE_CYCLE = 16.0

#: The rooms. Clients are in the first one and sometimes move to the second; storms join the third.
ROOMS = ("arena", "annex", "gate")


class FaultKind(Enum):
    """What goes wrong. The value is its name in the history."""

    KILL = "kill"
    POWER_CUT = "power cut"
    FREEZE = "freeze"
    ROLLING_RESTART = "rolling restart"
    RESET = "reset"
    CUT = "cut"
    HALF_OPEN = "half-open"
    STALL = "stall"
    DRIP = "drip"
    DISK_FULL = "disk full"
    DISK_SLOW = "disk slow"
    CLOCK_STEP = "clock step"
    STORM = "storm"
    NO_READING = "client reads nothing"
    FLOOD = "client floods"
    MID_FRAME = "client leaves mid-frame"
    REDIS_KILL = "redis killed"
    REDIS_PAUSE = "redis paused"
    REDIS_EMPTY = "redis emptied"
    REDIS_FAILOVER = "redis failed over"
    REDIS_LINK = "link to redis"


#: The faults that an engine has besides those of every server.
_OF_ENGINE = {
    "memory": (),
    "sqlite": (FaultKind.POWER_CUT, FaultKind.DISK_FULL, FaultKind.DISK_SLOW),
    "redis": (
        FaultKind.REDIS_KILL,
        FaultKind.REDIS_PAUSE,
        FaultKind.REDIS_EMPTY,
        FaultKind.REDIS_FAILOVER,
        FaultKind.REDIS_LINK,
        FaultKind.DISK_FULL,
        FaultKind.DISK_SLOW,
    ),
    "foreign redis": (FaultKind.REDIS_LINK,),
}

#: The faults of every server.
_EVERYWHERE = tuple(
    kind for kind in FaultKind if not any(kind in kinds for kinds in _OF_ENGINE.values())
)

#: Faults whose length is drawn from here, in seconds; others are over at once.
_LENGTHS = {
    FaultKind.KILL: (0.0, 1.5),
    FaultKind.POWER_CUT: (0.0, 1.0),
    FaultKind.FREEZE: (0.2, 4.0),
    FaultKind.HALF_OPEN: (2.0, 8.0),
    FaultKind.STALL: (1.0, 8.0),
    FaultKind.DRIP: (1.0, 5.0),
    FaultKind.DISK_FULL: (0.5, 3.0),
    FaultKind.DISK_SLOW: (1.0, 4.0),
    FaultKind.CLOCK_STEP: (1.0, 6.0),
    FaultKind.NO_READING: (2.0, 6.0),
    FaultKind.FLOOD: (1.0, 2.0),
    FaultKind.REDIS_KILL: (0.0, 2.0),
    FaultKind.REDIS_PAUSE: (0.2, 4.0),
    FaultKind.REDIS_LINK: (0.5, 5.0),
}


@dataclass(frozen=True)
class PlannedFault:
    """A fault, ``at`` so many seconds after the cycle begins, at a node.

    ``amount``, from 0 to 1, says how much of what it concerns: connections, seconds, clients.
    """

    at: float
    kind: FaultKind
    node: int
    lasts: float
    amount: float
    seed: int


@dataclass(frozen=True)
class Cycle:
    """Faults that overlap, after which all is healed."""

    faults: tuple[PlannedFault, ...]


class Kind(Enum):
    """The kinds of clients."""

    OURS = "client"
    JSON = "json"
    PLAIN = "plain"
    PIPE = "pipe"
    POST = "post"
    EVENT_SOURCE = "eventsource"
    LINES = "lines"


@dataclass(frozen=True)
class ClientPlan:
    """A client that stays: its name, which is also its nick, and how often it says something."""

    name: str
    kind: Kind
    node: int
    #: Seconds between two steps, on average.
    pause: float
    #: Sends every message more than once, with the same nonce.
    repeats: bool = False


@dataclass(frozen=True)
class Plan:
    """All that is drawn before the run begins."""

    seed: int
    clients: tuple[ClientPlan, ...]
    cycles: tuple[Cycle, ...]


@dataclass(frozen=True)
class Step:
    """What a client does next, after a pause: says a text, moves, or whispers."""

    pause: float
    #: ``say``, ``act``, ``move`` or ``whisper``.
    what: str
    text: str
    to: str


def make_plan(
    seed: int, minutes: float, engine: str, nodes: int, *, only: Sequence[FaultKind] | None = None
) -> Plan:
    """The plan for a seed. Each fault of the engine comes about equally often, in random order."""
    chance = random.Random(f"{seed} plan")
    kinds = list(only if only is not None else (*_EVERYWHERE, *_OF_ENGINE[engine]))
    deck: list[FaultKind] = []
    cycles = []
    for _ in range(max(1, round(minutes * 60 / _WHOLE_CYCLE))):
        faults = []
        for _ in range(chance.randint(5, 9)):
            if not deck:
                deck = chance.sample(kinds, len(kinds))
            kind = deck.pop()
            least, most = _LENGTHS.get(kind, (0.0, 0.0))
            lasts = chance.uniform(least, most)
            at = chance.uniform(0.0, CYCLE_SECONDS - lasts)
            faults.append(
                PlannedFault(
                    round(at, 3),
                    kind,
                    chance.randrange(nodes),
                    round(lasts, 3),
                    round(chance.uniform(0.2, 1.0), 3),
                    chance.randrange(1 << 32),
                )
            )
        cycles.append(Cycle(tuple(sorted(faults, key=lambda each: each.at))))
    return Plan(seed, _clients(chance, nodes), tuple(cycles))


def _clients(chance: random.Random, nodes: int) -> tuple[ClientPlan, ...]:
    kinds = [*[Kind.OURS] * 5, *[Kind.JSON] * 5, *[Kind.PLAIN] * 2, *[Kind.PIPE] * 2]
    kinds += [Kind.POST] * 3 + [Kind.EVENT_SOURCE] * 2 + [Kind.LINES]
    repeaters = {5, 6, 14}
    return tuple(
        ClientPlan(
            f"{kind.value}{number}",
            kind,
            number % nodes,
            # A repeater is quick, so that nonces are needed often.
            round(0.03 if number in repeaters else chance.uniform(0.1, 0.5), 3),
            repeats=number in repeaters,
        )
        for number, kind in enumerate(kinds)
    )


def steps(seed: int, client: ClientPlan, everybody: Sequence[str]) -> Iterator[Step]:
    """What a client does, without end; the same for the same seed. Each text is unique."""
    chance = random.Random(f"{seed} {client.name}")
    weights = {"say": 60, "act": 4, "move": 1, "whisper": 4}
    number = 0
    while True:
        number += 1
        (what,) = chance.choices(list(weights), list(weights.values()))
        size = chance.choice([0, 0, 0, 20, 200, 2000 if chance.random() < 0.05 else 0])
        yield Step(
            min(2.0, chance.expovariate(1 / client.pause)),
            what,
            f"{client.name}.{number}" + (" " + "x" * size if size else ""),
            chance.choice(everybody),
        )
