"""Valid histories for the tests of the checker: what clients of a perfect server would note."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.torture import scripts

with scripts():
    from torture.history import (
        Acked,
        Audit,
        Begin,
        Entered,
        Fault,
        FaultEnd,
        Gap,
        Healed,
        Left,
        Line,
        LogEnd,
        Logged,
        Page,
        Private,
        PrivateSeen,
        Record,
        Seen,
        Sent,
    )

__all__ = ["CLIENTS", "PLAIN", "ROOM", "World", "histories"]

ROOM = "room"
CLIENTS = ("ann", "bob", "eve")
PLAIN = "tom"


@dataclass
class World:
    """A server with one room, whose clients see everything at once or when they come back."""

    records: list[Record] = field(default_factory=list)
    epoch: int = 1
    log: list[str] = field(default_factory=list)
    sent: int = 0
    #: The epoch and the last offset that each client has seen; None while it is away.
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    faults: int = 0

    def write(self, kind: type, *values: object, **fields: object) -> None:
        self.records.append(kind(len(self.records) / 64, *values, **fields))

    def begin(self) -> None:
        self.write(Begin, "syncchat", 1, "memory:", 1, keeps=False, command="")
        for client in CLIENTS:
            self.write(Entered, client, ROOM, self.name, 0)
            self.seen[client] = self.epoch, 0
        self.write(Entered, PLAIN, ROOM)

    @property
    def name(self) -> str:
        return f"e{self.epoch}"

    def say(self, client: str) -> None:
        self.sent += 1
        text = f"{client}.{self.sent}"
        self.write(Sent, client, ROOM, text)
        self.log.append(text)
        for each in CLIENTS:
            if each not in self.away:
                self.show(each)
        self.write(Line, PLAIN, ROOM, text)
        if client not in self.away and client != PLAIN:
            self.write(Acked, client, ROOM, text, self.name, len(self.log))

    def show(self, client: str) -> None:
        """Show a client all that it has not seen."""
        _, last = self.seen[client]
        for offset in range(last + 1, len(self.log) + 1):
            text = self.log[offset - 1]
            self.write(Seen, client, ROOM, self.name, offset, text, f"stamp of {text}")
        self.seen[client] = self.epoch, len(self.log)

    def leave(self, client: str) -> None:
        self.away.add(client)

    def return_(self, client: str) -> None:
        if client not in self.away:
            return
        self.away.discard(client)
        epoch, last = self.seen[client]
        complete = epoch == self.epoch or last == 0
        after = f"e{epoch}:{last}"
        if not complete:
            last = 0
        self.write(Entered, client, ROOM, self.name, len(self.log), resumed=True)
        first = last + 1 if last < len(self.log) else 0
        self.write(Page, client, ROOM, self.name, after, complete, first, len(self.log))
        if not complete:
            self.write(Gap, client, ROOM)
        self.seen[client] = self.epoch, last
        self.show(client)

    def whisper(self, client: str) -> None:
        self.sent += 1
        text = f"{client}.{self.sent}"
        self.write(Private, client, "bob", text)
        for each in {"bob", client} - self.away:
            self.write(PrivateSeen, each, text)

    def forget(self) -> None:
        """Lose the log, as a server with the memory engine does when it ends."""
        self.faults += 1
        self.write(Fault, self.faults, "kill", "node 0", forgets=True)
        self.write(FaultEnd, self.faults)
        self.epoch += 1
        self.log.clear()
        for client in CLIENTS:
            self.leave(client)
        self.write(Left, PLAIN)
        self.write(Entered, PLAIN, ROOM)

    def finish(self) -> None:
        self.write(Healed, (*CLIENTS, PLAIN), CLIENTS)
        for client in CLIENTS:
            self.return_(client)
            self.say(client)
        for offset, text in enumerate(self.log, 1):
            self.write(Logged, 0, ROOM, self.name, offset, text, f"stamp of {text}")
        self.write(LogEnd, 0, ROOM, self.name, 1, len(self.log), complete=True)
        for what in ("threads", "descriptors", "processes", "names"):
            self.write(Audit, 0, what, 5, 5)


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "say", "leave", "return", "whisper", "forget"]),
        st.sampled_from(CLIENTS),
    ),
    max_size=40,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Valid histories, in which each client has sent and seen something."""
    world = World()
    world.begin()
    for step, client in draw(_STEPS):
        match step:
            case "say":
                world.say(client)
            case "leave":
                world.leave(client)
            case "return":
                world.return_(client)
            case "whisper":
                world.whisper(client)
            case _:
                world.forget()
    world.say(PLAIN)
    world.whisper("ann")
    world.finish()
    return world.records
