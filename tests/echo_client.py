"""An echo client on the public API, through every case of a conformance suite's server.

``python tests/echo_client.py ws://HOST:PORT AGENT``
"""

import sys

from syncchat import ConnectionClosed
from syncchat.net import connect


def echo(url: str) -> None:
    limit = 16 * 1024 * 1024
    try:
        with connect(
            url, max_message=limit, max_fragments=65537, max_backlog=4 * limit
        ) as websocket:
            for message in websocket:
                websocket.send(message)
    except ConnectionClosed:
        pass  # Many a case ends in a violation.


if __name__ == "__main__":
    url, agent = sys.argv[1:]
    with connect(f"{url}/getCaseCount") as websocket:
        count = int(websocket.recv())
    for case in range(1, count + 1):
        echo(f"{url}/runCase?case={case}&agent={agent}")
    echo(f"{url}/updateReports?agent={agent}")
