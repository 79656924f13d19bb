"""The client's connection, its reader thread and its inbox at unusual moments."""

from __future__ import annotations

from syncchat import Client, Line
from syncchat.chat.commands import HELP_TEXT
from syncchat.chat.events import Welcome
from tests.peer import PATIENCE, InThread
from tests.stage import Stage


def test_a_full_inbox_takes_the_help_from_the_only_receiver() -> None:
    """More events than the inbox holds, and nobody else who receives."""
    with Stage() as stage, Client(f"ws://{stage.url}/") as client:
        assert isinstance(client.receive(PATIENCE), Welcome)

        def ask() -> None:
            for _ in range(10_001):
                client.send_line("/help")

        asking = InThread(ask)
        try:
            asking.result()
        finally:
            client.close()
        assert list(client) == [Line(HELP_TEXT)] * 10_001
