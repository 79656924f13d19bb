"""Every engine does what a model of a few lines does, whatever is asked of it in any order."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from syncchat.chat import events
from syncchat.engine import Candidate, Draft, Engine, Position, Retention, open_engine
from tests.redis_server import RedisProcess

KEEP = 6

rooms = st.sampled_from(["a", "b"])
nicks = st.sampled_from(["ann", "Ann", "bob", "Straße", "STRASSE"])
candidates = st.sampled_from(
    [
        *(Candidate(nick) for nick in ("ann", "Ann", "bob", "Straße", "STRASSE")),
        # A Cyrillic letter: it looks like ann.
        Candidate("аnn", "ann"),
        Candidate("Ann", "ann"),
        Candidate("eve", "eve", "e"),
        Candidate("Eve", "eve", "e"),
        Candidate("eve", "eve", "another"),
        Candidate("еve", "eve"),
    ]
)
drafts = st.builds(
    Draft,
    nicks,
    st.sampled_from(["x", "y"]),
    st.sampled_from(["message", "action"]),
    st.sampled_from([None, None, "1", "2", "3"]),
)
offsets = st.integers(0, 30)
limits = st.integers(1, 8)


class Machine(RuleBasedStateMachine):
    """Asks the engine called ``name`` and the model the same."""

    name = ""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.url = self.name
        if self.name == "redis:":
            flags = ("--appendonly", "yes", "--appendfsync", "no")
            self.redis = self.stack.enter_context(RedisProcess(*flags))
            self.url = self.redis.url
        self.engine = self.opened()
        self.begin_model()

    def opened(self) -> Engine:
        return open_engine(self.url, Retention(messages=KEEP), codec=events.LIVE_CODEC)

    def begin_model(self) -> None:
        self.logs: dict[str, list[Draft]] = {"a": [], "b": []}
        self.known: dict[tuple[str, str, str, str], int] = {}
        #: The claims by casefolded nick, each with how often it is claimed.
        self.names: dict[str, dict[str, tuple[Candidate, int]]] = {"a": {}, "b": {}}
        self.epochs = {room: self.engine.follow(room).epoch for room in self.logs}

    def kept(self, room: str) -> list[tuple[int, str, str]]:
        numbered = [(at, d.text, d.nick) for at, d in enumerate(self.logs[room], 1)]
        return numbered[-KEEP:]

    @rule(room=rooms, batch=st.lists(drafts, min_size=1, max_size=5))
    def append(self, room: str, batch: list[Draft]) -> None:
        expected = []
        for draft in batch:
            key = None if draft.nonce is None else (room, draft.nonce, draft.kind, draft.text)
            if key in self.known:
                expected.append((self.known[key], False))
                continue
            self.logs[room].append(draft)
            expected.append((len(self.logs[room]), True))
            if key is not None:
                self.known[key] = len(self.logs[room])
        assert [(a.offset, a.new) for a in self.engine.append(room, batch)] == expected

    @rule(room=rooms, offset=offsets, limit=limits)
    def read_after(self, room: str, offset: int, limit: int) -> None:
        tail = self.engine.read_after(room, Position(self.epochs[room], offset), limit)
        kept, end = self.kept(room), len(self.logs[room])
        if offset > end:
            offset = max(0, end - limit)
            complete = False
        else:
            complete = not kept or kept[0][0] <= offset + 1
        expected = [each for each in kept if each[0] > offset][:limit]
        assert [(m.offset, m.text, m.nick) for m in tail.messages] == expected
        assert tail.complete == complete
        assert tail.end == Position(self.epochs[room], end)

    @rule(room=rooms, before=st.none() | offsets, limit=limits)
    def read_before(self, room: str, before: int | None, limit: int) -> None:
        page = self.engine.read_before(room, before, limit)
        older = [each for each in self.kept(room) if before is None or each[0] < before]
        assert [(m.offset, m.text, m.nick) for m in page.messages] == older[-limit:]
        assert page.complete == (len(older) <= limit)

    @rule(room=rooms, word=st.sampled_from(["x", "Y", "z"]), limit=limits)
    def search(self, room: str, word: str, limit: int) -> None:
        found = self.engine.search(room, word, limit)
        expected = [each[0] for each in reversed(self.kept(room)) if each[1] == word.lower()]
        assert [m.offset for m in found] == expected[:limit]

    def is_free(self, room: str, new: Candidate, old: str = "") -> bool:
        key = new.nick.casefold()
        return not any(
            each != old and (each == key or (held.look and held.look == new.look))
            for each, (held, _) in self.names[room].items()
        )

    def joins(self, room: str, new: Candidate) -> bool:
        held, _ = self.names[room].get(new.nick.casefold(), (None, 0))
        return held is not None and new.owner != "" and held.owner == new.owner

    def note(self, room: str, new: Candidate) -> None:
        key = new.nick.casefold()
        held, count = self.names[room].get(key, (new, 0))
        self.names[room][key] = held, count + 1

    def drop(self, room: str, key: str) -> bool:
        held, count = self.names[room].pop(key, (None, 0))
        if held is not None and count > 1:
            self.names[room][key] = held, count - 1
        return count <= 1

    @rule(room=rooms, wanted=st.lists(candidates, min_size=1, max_size=3))
    def claim(self, room: str, wanted: list[Candidate]) -> None:
        free = next((c for c in wanted if self.joins(room, c) or self.is_free(room, c)), None)
        if free is None:
            with pytest.raises(ValueError, match="free"):
                self.engine.claim(room, wanted)
            return
        is_first = not self.joins(room, free)
        self.note(room, free)
        entered = self.engine.enter(room, wanted, None, 0, with_names=False)
        assert (entered.nick, entered.first) == (free.nick, is_first)

    @rule(room=rooms, new=candidates, data=st.data())
    def rename(self, room: str, new: Candidate, data: st.DataObject) -> None:
        names = self.names[room]
        if names:
            old = data.draw(st.sampled_from(sorted(names)))
            alone = names[old][1] == 1
            joins = self.joins(room, new) and (new.nick.casefold() != old or not alone)
            free = joins or self.is_free(room, new, old if alone else "")
            assert self.engine.rename(room, names[old][0].nick, new) == free
            if free:
                self.drop(room, old)
                self.note(room, new)

    @rule(room=rooms, nick=nicks)
    def release(self, room: str, nick: str) -> None:
        freed = self.drop(room, nick.casefold())
        assert self.engine.release(room, nick) == freed

    @rule()
    def restart(self) -> None:
        self.engine.close()
        if self.name == "redis:":
            self.redis.kill()
            self.redis.start()
        self.engine = self.opened()
        if self.name == "memory:":
            self.begin_model()
        self.names = {"a": {}, "b": {}}
        for room in self.logs:
            assert self.engine.follow(room) == Position(self.epochs[room], len(self.logs[room]))

    @invariant()
    def names_and_rooms_are_the_same(self) -> None:
        for room, names in self.names.items():
            held = [candidate.nick for candidate, _ in names.values()]
            assert self.engine.names(room) == sorted(held, key=str.casefold)
        assert self.engine.rooms() == [room for room, log in self.logs.items() if log]

    def teardown(self) -> None:
        self.engine.close()
        self.stack.close()


@pytest.mark.parametrize("name", ["memory:", "sqlite:", "redis:"])
def test_an_engine_does_what_the_model_does(name: str, tmp_path: Path, full: bool) -> None:
    class Named(Machine):
        def __init__(self) -> None:
            Named.count += 1
            self.name = f"sqlite:{tmp_path / str(Named.count)}" if name == "sqlite:" else name
            super().__init__()

        count = 0

    run_state_machine_as_test(
        Named,
        settings=settings(
            max_examples=100 if full else 5,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
