"""The chat server as a program embeds it."""

from __future__ import annotations

import threading

from syncchat import ChatServer
from tests.peer import Peer
from tests.people import Json, settled, url_of

# Messages of the embedding program.


def test_messages_of_the_server_are_stored_and_numbered() -> None:
    with ChatServer(port=0, greeting="") as chat:
        chat.say("nobody hears this", room="ops")
        with Json(url_of(chat, "/ops?history=5")) as client:
            assert client.event("welcome")["offset"] == 1
            (message,) = client.event("history")["messages"]
            assert (message["nick"], message["text"]) == ("server", "nobody hears this")
            threads = [
                threading.Thread(target=chat.say, args=(str(number), "ops")) for number in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            offsets = [client.event("message")["offset"] for _ in threads]
            assert offsets == list(range(2, 10))


def test_a_client_that_leaves_while_it_enters_leaves_nothing() -> None:
    with ChatServer(port=0, max_rooms=1) as chat:
        for _ in range(200):
            peer = Peer.client(chat.port, path="/ghost?nick=ghost")
            peer.reset()
            peer.close()
        settled(chat, 0)
        # The nick and the only room are free again.
        with Json(url_of(chat, "/other?nick=ghost")) as other:
            assert other.event("welcome")["members"] == ["ghost"]
        settled(chat, 0)
        with Json(url_of(chat, "/ghost?nick=ghost")) as ghost:
            assert ghost.event("welcome")["members"] == ["ghost"]
