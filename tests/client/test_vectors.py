"""The client's state machine passes the test vectors, which docs/protocol.md explains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from syncchat.chat import events
from syncchat.client.events import Event, Gap, Line, Sent
from syncchat.client.protocol import Protocol
from syncchat.errors import ConnectionClosed, HandshakeRefused
from tests.documents import DOCS, blocks_of

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text("utf-8"))
SCENARIOS = [each for each in VECTORS["scenarios"] if "python" in each.get("for", ["python"])]

Step = dict[str, Any]


def all_of(items: list[Any]) -> Iterator[Any]:
    """The events of a list, with ``repeat`` and ``pad`` carried out."""
    for item in items:
        if not isinstance(item, dict):
            yield item
            continue
        first, last = item.get("repeat", (0, 0))
        one = json.dumps({name: item[name] for name in item if name != "repeat"})
        for number in range(first, last + 1):
            event = json.loads(one.replace("#", str(number)) if "repeat" in item else one)
            if "pad" in event:
                event["text"] = event["text"].ljust(event.pop("pad"), "x")
            yield event


def whole(event: Any) -> Any:
    """An event of the server with the members that the vectors leave out."""
    if isinstance(event, str):
        return event
    full = {**VECTORS["defaults"].get(event["type"], {}), **event}
    if full["type"] == "history":
        full["messages"] = [whole({"type": "message", **each}) for each in full["messages"]]
    return full


def as_object(event: Event) -> Step:
    match event:
        case Gap(after, epoch, anew):
            return {"type": "gap", "after": after, "epoch": epoch, "anew": anew}
        case Line(text):
            return {"type": "line", "text": text}
        case Sent(nonce):
            return {"type": "sent", "nonce": nonce}
        case _:
            found: Step = json.loads(events.encode(event))  # type: ignore[arg-type]
            return found


def parts(url: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(url)
    return split.path, dict(parse_qsl(split.query))


class Player:
    """Plays one scenario. ``chance`` is what every random number is."""

    def __init__(self, client: Step, chance: float) -> None:
        self._protocol = Protocol(
            "ws://example.org" + client.get("url", "/"),
            client.get("nick"),
            history=client.get("history", 0),
            random=lambda: chance,
        )
        self._chance = chance
        self._now = self._heard_at = 0.0
        self._open = False
        self._found: Step = {}

    def play(self, step: Step) -> None:
        """Take one step. Raises :class:`AssertionError` if anything else happens than it says."""
        self._now = step.get("at", self._now)
        self._found = {"show": [], "send": []}
        match step["do"]:
            case "connect":
                self._connect(step)
            case "receive":
                self._receive(step)
            case "pong":
                self._heard_at = self._now
            case "say":
                self._say(step)
            case "close":
                self._open = False
                self._end(ConnectionClosed(step["code"], step.get("reason", "")))
            case "watch":
                self._protocol.watched.watch(
                    {each["room"]: each.get("after") for each in step["rooms"]}
                )
            case "unwatch":
                self._protocol.watched.unwatch(step["rooms"])
            case "seen":
                self._protocol.report(*step.get("seen", (None, None)))
            case "wait":
                pass
            case _:
                raise ValueError(step["do"])
        if self._open:
            self._check()
        self._compare(step)

    def _connect(self, step: Step) -> None:
        self._found["url"] = parts(self._protocol.url)
        if "refused" in step:
            self._end(HandshakeRefused(step["refused"]) if step["refused"] else OSError())
            return
        headers = {events.VERSION_HEADER.lower(): "1"} if step.get("named", True) else {}
        self._protocol.opened(step.get("subprotocol", "syncchat.v1"), headers, self._now)
        self._open, self._heard_at = True, self._now

    def _receive(self, step: Step) -> None:
        self._heard_at = self._now
        for event in map(whole, all_of(step["messages"])):
            text = event if isinstance(event, str) else json.dumps(event)
            self._found["show"] += map(as_object, self._protocol.received(text, self._now))

    def _say(self, step: Step) -> None:
        for event in all_of(step["events"]):
            said = events.decode_from_client(json.dumps(event))
            assert isinstance(said, events.Say | events.Action | events.Join)
            try:
                self._found["full"] = not self._protocol.say(said, self._now)
            except ValueError:
                self._found["too_big"] = True

    def _end(self, end: Exception) -> None:
        self._found["retry_in"] = self._protocol.closed(end)

    def _check(self) -> None:
        protocol = self._protocol
        try:
            _, self._found["ping"] = protocol.check(self._now, self._heard_at)
        except ConnectionClosed:
            self._found["dead"] = True
        if protocol.break_off is not None:
            self._found["dead"] = True
        while (text := protocol.next()) is not None:
            self._found["send"].append(text if protocol.dialect.plain else json.loads(text))
            told = protocol.sent()
            if told is not None:
                self._found["show"].append(as_object(told))

    def _compare(self, step: Step) -> None:
        found, protocol = self._found, self._protocol
        assert found["send"] == list(all_of(step.get("send", [])))
        wanted = list(all_of(step.get("show", [])))
        # An expected event names the members that matter.
        shown = found["show"]
        assert len(shown) == len(wanted), shown
        assert [
            {name: each.get(name) for name in want}
            for want, each in zip(wanted, shown, strict=True)
        ] == wanted
        assert found.get("dead", False) is step.get("dead", False)
        assert found.get("ping", False) is step.get("ping", False)
        assert found.get("full", False) is step.get("full", False)
        assert found.get("too_big", False) is step.get("too_big", False)
        if "url" in step:
            assert found["url"] == parts(step["url"])
        if "retry_in" in found:
            bounds = step["retry_in"]
            assert found["retry_in"] == (bounds and bounds[round(self._chance)])
        state = {
            "ready": protocol.ready,
            "plain": protocol.dialect.plain,
            "unacknowledged": len(protocol.outbox),
            "position": protocol.tracker.position,
            "room": protocol.tracker.room,
            "nick": protocol.tracker.nick,
            "watched": {
                each.room: {
                    "place": each.place,
                    "unread": each.unread,
                    "mention": each.mention and each.mention.offset,
                }
                for each in protocol.news()
            },
        }
        assert {name: state[name] for name in state.keys() & step.keys()} == {
            name: step[name] for name in state.keys() & step.keys()
        }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each["name"])
def test_the_client_passes_the_vectors(scenario: Step) -> None:
    """Issue 13, items 1, 11 and 13: also the choice of the dialect and dead connections."""
    for chance in (0.0, 1.0):
        player = Player(scenario.get("client", {}), chance)
        for number, step in enumerate(scenario["steps"]):
            try:
                player.play(step)
            except Exception as exc:
                exc.add_note(f"in step {number}: {step}")
                raise


def test_the_scenario_of_the_protocol_is_one_of_the_vectors() -> None:
    blocks = blocks_of(DOCS / "protocol.md")
    (shown,) = [json.loads(block.text) for block in blocks if '"do"' in block.text]
    assert {"ready", "position"} <= {name for step in shown["steps"] for name in step}
    assert [each for each in SCENARIOS if each["name"] == shown["name"]] == [shown]
