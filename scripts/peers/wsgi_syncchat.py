"""A chat on syncchat.wsgi in Flask, for gunicorn."""

import sys
from collections import defaultdict
from contextlib import suppress

from flask import Flask, request

from syncchat.errors import ConnectionClosed
from syncchat.net import Group
from syncchat.wsgi import accept

# The same switch interval as the syncchat command.
sys.setswitchinterval(1.0)

app = Flask(__name__)
rooms: defaultdict[str, Group] = defaultdict(Group)


@app.get("/<room>", websocket=True)
def chat(room: str) -> str:
    group = rooms[room]
    with accept(request.environ, ping_interval=None) as websocket:
        group.add(websocket)
        host, port = websocket.remote_address
        with suppress(ConnectionClosed):
            while True:
                # Messages that arrive together go out together.
                group.send_many(f"{host}:{port}: {text!s}" for text in websocket.recv_many())
    return ""
