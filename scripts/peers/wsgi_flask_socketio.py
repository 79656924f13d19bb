"""A chat on Flask-SocketIO with threads (and simple-websocket), for gunicorn."""

import sys

from flask import Flask, request
from flask_socketio import SocketIO, emit, join_room

# The same switch interval as the syncchat command.
sys.setswitchinterval(1.0)

app = Flask(__name__)
socketio = SocketIO(
    app, async_mode="threading", cors_allowed_origins="*", ping_interval=3600, ping_timeout=3600
)


def enter() -> None:
    join_room(request.args["room"])


def say(text: str) -> None:
    sender = f"{request.remote_addr}:{request.environ['REMOTE_PORT']}"
    emit("said", f"{sender}: {text}", to=request.args["room"])


socketio.on_event("connect", enter)
socketio.on_event("say", say)
