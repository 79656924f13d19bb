"""Several workers of gunicorn: what a view says reaches the clients of every server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from syncchat import ChatServer, Client
from syncchat.chat.events import Message, Welcome
from tests.peer import PATIENCE, wait_for
from tests.people import messages, until, url_of
from tests.redis_server import RedisProcess
from tests.wsgi.servers import WsgiServer


def test_views_of_several_workers_publish_through_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisProcess() as storage:
        monkeypatch.setenv("REDIS", storage.url)
        with (
            ChatServer(port=0, engine=storage.url, greeting="", notices=False) as one,
            ChatServer(port=0, engine=storage.url, greeting="", notices=False) as two,
            Client(url_of(one, "/ops"), nick="ann") as ann,
            Client(url_of(two, "/ops"), nick="bob") as bob,
            WsgiServer("gunicorn", "publish", "--workers", "2") as server,
        ):
            until(ann, Welcome)
            until(bob, Welcome)
            url = f"http://127.0.0.1:{server.port}/say"

            def post(number: int) -> str:
                # Each twice, as a client that tries again.
                data = {"text": str(number // 2), "nonce": f"n{number // 2}"}
                return requests.post(url, data, timeout=PATIENCE).text

            workers: set[str] = set()
            count = 0

            def both_have_answered() -> bool:
                nonlocal count
                workers.update(pool.map(post, range(2 * count, 2 * count + 40)))
                count += 20
                return len(workers) == 2

            with ThreadPoolExecutor(8) as pool:
                wait_for(both_have_answered)
            for client in (ann, bob):
                heard: list[str] = []
                while len(heard) < count:
                    heard += messages(until(client, Message))
                assert sorted(heard, key=int) == [str(number) for number in range(count)]
            assert ann.room == bob.room == "ops"
