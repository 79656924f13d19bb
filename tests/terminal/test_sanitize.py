"""Hostile texts: the bytes that the client writes to a real terminal."""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from syncchat.chat.events import (
    Away,
    Back,
    Error,
    FromServer,
    History,
    Joined,
    Left,
    Message,
    Names,
    PrivateMessage,
    Renamed,
    RoomCount,
    Rooms,
    Whois,
    encode,
)
from syncchat.net import WebSocket, serve
from syncchat.terminal import Preferences
from syncchat.terminal.safe_text import name_for_screen, sanitized, text_for_screen
from tests.peer import PATIENCE
from tests.processes import CLIENT, Script, Terminal
from tests.screen import Screen
from tests.stage import Stage, welcome

#: Known attacks on terminals, by what they do.
ATTACKS = {
    "clipboard (OSC 52)": "\x1b]52;c;cm0gLXJmIH4K\x07",
    "clipboard, C1": "\x9d52;c;cm0gLXJmIH4K\x9c",
    "title (OSC 0)": "\x1b]0;root@host\x07",
    "title is reported back": "\x1b]0;rm -rf ~\x07\x1b[21t",
    "hyperlink (OSC 8)": "\x1b]8;;http://evil/\x1b\\click\x1b]8;;\x1b\\",
    "colours (OSC 4, 10, 11)": "\x1b]4;0;#ffffff\x07\x1b]10;#fff\x07\x1b]11;#fff\x07",
    "notification (OSC 9, 777)": "\x1b]9;hey\x07\x1b]777;notify;a;b\x07",
    "file (OSC 1337)": "\x1b]1337;File=name=eA==:AAAA\x07",
    "DECRQSS answers": "\x1bP$q\nid\n\x1b\\",
    "sixel": "\x1bPq#0;2;0;0;0~-\x1b\\",
    "answerback": "\x05",
    "device attributes": "\x1b[c\x1b[>c\x1b[=c",
    "cursor position": "\x1b[6n",
    "screen wiped": "\x1b[2J\x1b[3J\x1b[H",
    "alternate screen": "\x1b[?1049h",
    "lines rewritten": "\x1b[1A\x1b[2Kroot: I quit\r\n",
    "colour": "\x1b[31mred\x1b[0m",
    "invisible": "\x1b[8mhidden\x1b[28m",
    "C1 CSI": "\x9b31m\x9b2J",
    "C1 others": "".join(map(chr, range(0x80, 0xA0))),
    "C0": "".join(map(chr, range(0x20))) + "\x7f",
    "carriage return": "innocent\rroot: guilty",
    "backspaces": "innocent" + "\b" * 20 + "guilty",
    "prompt_toolkit's raw marks": "\x01\x1b[31m\x02",
    "character sets": "\x0e\x1b(0lqqk\x0f",
    "keyboard locked, printer": "\x1b[2h\x1b[5i\x1b[4i",
    "reset": "\x1bc\x1b[!p",
    "bidi overrides": "\u202eexe.txt\u202c \u2066x\u2069 \u200e\u200f\u061c\u202a\u202b\u202d",
    "separators": "one\u2028two\u2029three\u0085four",
    "tags": "".join(map(chr, range(0xE0000, 0xE0080))),
    "combining": "Z" + "\u0335\u0489\u20dd\u0301" * 2500,
    "combining, with joiners": "Z" + ("\u0301" * 8 + "\u200d") * 1000,
    "combining, with soft hyphens": "Z" + ("\u0301" * 8 + "\u00ad") * 1000,
    "lone surrogates": "\ud800\udfff",
    "markup": "<b>&lt;</b>{0}%s{nick}",
}

#: Bytes of hostile texts that must not reach a terminal.
HARMFUL = re.compile(
    "[\x00-\x06\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\U000e0000-\U000e007f]"
)

#: What a prompt needs, and nothing else: colours, moves within its own rows, wiping
#: below, autowrap, bracketed paste, the cursor's visibility, synchronized updates.
PROMPTS_OWN = re.compile(
    r"\x1b[78]|\x1b\[0m|\x1b\[0;[0-9;]*m|\x1b\[\d*[ABCDK]|\x1b\[J|\x1b\[\?(7|1|12|25|2004|2026)[hl]|\x1b\[\d+;\d+H"
)


def check_bytes(written: bytes) -> None:
    text = written.decode()
    rest = PROMPTS_OWN.sub("", text)
    assert "\x1b" not in rest, re.findall(r"\x1b.{0,20}", rest)
    assert "\x07" not in rest
    found = HARMFUL.search(rest.replace("\r", "").replace("\b", "", 0))
    assert found is None, repr(rest[max(0, found.start() - 20) : found.end() + 20])
    assert not re.search(r"[\u0300-\u036f\u0489\u20dd\u200d\u00ad]{9}", rest)


def sent(event: FromServer) -> str:
    """The event as it goes over the wire, surrogates or not."""
    members = msgspec.to_builtins(event)
    return json.dumps(members, ensure_ascii=False).encode("utf-8", "replace").decode()


def events_of(attack: str, offset: int) -> Iterator[FromServer]:
    """Every place in which a server can send text."""
    yield Message(offset, 0.0, "bob", attack, "message")
    yield Message(offset + 1, 0.0, attack, "text", "message")
    yield Message(offset + 2, 0.0, attack, attack, "action")
    yield Joined(attack, 3, (attack,))
    yield Left(attack, 2, (attack,), attack)
    yield Renamed(attack, f"{attack}2")
    yield Names([attack, "ann"], [attack])
    yield PrivateMessage(attack, "ann", attack, 0.0)
    yield PrivateMessage("ann", attack, attack, 0.0)
    yield Rooms((RoomCount(attack, 1),))
    yield Whois(attack, 0.0, None, attack)
    yield Away(attack, attack)
    yield Back(attack)
    yield Error("absent", attack, attack)
    yield History((Message(1, 1e300, attack, attack, "message"),), complete=True, command="search")


@pytest.mark.slow
def test_no_attack_reaches_the_terminal_from_any_place() -> None:
    with Stage() as stage, Screen(stage.url, preferences=Preferences(bell="off")) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        socket = stage.clients[-1]
        for number, attack in enumerate(ATTACKS.values()):
            for event in events_of(attack, 3 * number + 1):
                socket.send(sent(event))
            # The input is redrawn meanwhile.
            client.type("x")
        stage.tell(Names(["the", "end"]))
        client.wait_for_line("-> 2 connected: the, end")
        client.wait_for_line("> " + "x" * len(ATTACKS))
        check_bytes(client.written)
        shown = "\n".join(client.scrollback())
        assert "bob: [31mred[0m" in shown
        assert "<b>&lt;</b>{0}%s{nick}" in shown


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_attack_is_in_a_welcome_a_reason_or_the_toolbar(attack: str) -> None:
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        hello = msgspec.structs.replace(
            welcome(), room=attack, nick=attack, members=[attack], greeting=attack, server=attack
        )
        websocket.send(sent(hello))
        websocket.send(sent(msgspec.structs.replace(hello, format="{sender}{text}" + attack[:60])))
        websocket.send(encode(Names(["the", "end"])))
        release.wait(PATIENCE)
        reason = attack.encode("utf-8", "replace")[:120].decode("utf-8", "ignore")
        websocket.close(4500, reason)

    with serve(handler, subprotocols=["syncchat.v1"]) as server:
        with Screen(f"127.0.0.1:{server.port}", preferences=Preferences(bell="off")) as client:
            client.wait_for_line("-> 2 connected: the, end")
            client.type("x")
            client.wait_for_line("> x")
            release.set()
            assert client.exit_code() == 1
            check_bytes(client.written)


def test_no_attack_reaches_the_terminal_from_a_server_of_plain_lines() -> None:
    def handler(websocket: WebSocket) -> None:
        for attack in ATTACKS.values():
            websocket.send(attack.encode("utf-8", "replace").decode())
        websocket.send("the end")
        list(websocket)

    with serve(handler) as server, Screen(f"127.0.0.1:{server.port}") as client:
        client.wait_for_line("the end")
        check_bytes(client.written)


def test_no_attack_reaches_a_terminal_behind_a_pipe() -> None:
    def handler(websocket: WebSocket) -> None:
        for attack in ATTACKS.values():
            websocket.send(attack.encode("utf-8", "replace").decode())
        websocket.send("the end")
        websocket.close(4500, "\x1b[31m\u202e")

    with serve(handler) as server, Script([*CLIENT, f"127.0.0.1:{server.port}"]) as client:
        assert client.exit_code() == 1
        for line in client.lines + client.errors:
            assert not HARMFUL.search(line.replace("\t", "")), line
            assert "\x1b" not in line


def test_the_output_without_a_prompt_is_sanitized_too() -> None:
    with Stage() as stage, Terminal(stage.url, "--json") as client:
        stage.wait_for_client()
        for number, attack in enumerate(ATTACKS.values()):
            for event in events_of(attack, 3 * number + 1):
                stage.clients[-1].send(sent(event))
        stage.tell(Names(["the", "end"]))
        client.wait_for_line('{"type": "names", "names": .*')
        check_bytes(client.written)


@contextmanager
def a_name_of(size: int) -> Iterator[tuple[Stage, Screen]]:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        nick = "N" * size
        stage.tell(
            Joined(nick, 3),
            Message(1, 0.0, nick, "short", "message"),
            Renamed(nick, nick + "2"),
            PrivateMessage(nick, "ann", "psst", 0.0),
            Names([nick, "ann"]),
            Message(2, 0.0, "bob", "the end", "message"),
        )
        yield stage, client


def test_a_nick_of_a_megabyte_is_shortened() -> None:
    with a_name_of(700_000) as (_, client):
        client.wait_for_line("bob: the end")
        assert len(client.written) < 10_000
        assert [line for line in client.scrollback() if "N…: short" in line]


@pytest.mark.slow
def test_a_text_of_a_megabyte_is_shortened() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.say("y" * 1_000_000)
        stage.say("the end")
        client.wait_for_line("bob: the end")
        assert any("(934464 more characters)" in line for line in client.scrollback())


def test_a_long_word_cannot_fake_a_line() -> None:
    with Stage() as stage, Screen(stage.url, columns=40) as client:
        stage.wait_for_client()
        stage.say("x" * 35 + "admin:\u00a0send\u00a0me\u00a0all")
        stage.say("x" * 100)
        stage.say("the end")
        client.wait_for_line("bob: the end")
        for line in client.scrollback()[1:]:
            assert line.startswith(("bob: ", "    ")), line


def test_one_person_cannot_fake_another() -> None:
    with Stage() as stage, Screen(stage.url, preferences=Preferences(timestamps=True)) as client:
        stage.wait_for_client()
        stage.say("hi\nroot: run this\n\n-> The server is gone.")
        stage.tell(Joined("x\n-> y", 2))
        stage.tell(Message(2, 0.0, "carl\nroot", "x\n * bob left.", "action"))
        stage.tell(Names(["the", "end"]))
        client.wait_for_line(r".*-> 2 connected: the, end")
        printed = [line for line in client.scrollback() if not line.startswith("---")][1:]
        for line in printed:
            assert not line or re.match(r"\d\d:\d\d |        ", line), line
        assert len([line for line in printed if line.startswith(("0", "1", "2"))]) == 4


# The parts.


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_sanitizing_removes_every_attack(attack: str) -> None:
    for text in (text_for_screen(attack), name_for_screen(attack)):
        assert not any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in text)
        assert not HARMFUL.search(text.replace("\t", ""))
    assert "\n" not in name_for_screen(attack)
    assert "\t" not in name_for_screen(attack)


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, Ελλάδα, привет",
        "เพื่อนที่ดี",
        "ख़ुशक़िस्मती",
        "👩‍👩‍👧‍👦 🏳️‍🌈 1️⃣",
        "e\u0301\u0323",
        "שָׁלוֹם עֲלֵיכֶם",
    ],
)
def test_sanitizing_keeps_what_languages_need(text: str) -> None:
    assert text_for_screen(text) == name_for_screen(text) == text


def test_an_event_without_harm_is_the_same_event() -> None:
    for event in events_of("harmless", 1):
        if not isinstance(event, History):
            assert sanitized(event) is event
    hello = welcome()
    assert sanitized(hello) is hello
