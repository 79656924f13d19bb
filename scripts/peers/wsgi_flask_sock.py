"""A chat on flask-sock (simple-websocket), for gunicorn."""

import sys
import threading
from collections import defaultdict

from flask import Flask, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server

# The same switch interval as the syncchat command.
sys.setswitchinterval(1.0)

app = Flask(__name__)
sock = Sock(app)
lock = threading.Lock()
rooms: defaultdict[str, set[Server]] = defaultdict(set)


def chat(websocket: Server, room: str) -> None:
    members = rooms[room]
    sender = f"{request.remote_addr}:{request.environ['REMOTE_PORT']}"
    with lock:
        members.add(websocket)
    try:
        while True:
            text = f"{sender}: {websocket.receive()!s}"
            with lock:
                everybody = list(members)
            for member in everybody:
                try:
                    member.send(text)
                except (ConnectionClosed, OSError):
                    continue
    finally:
        with lock:
            members.discard(websocket)


sock.route("/<room>")(chat)
