"""The Flask application."""

from __future__ import annotations

from flask import Flask, request
from flask.typing import ResponseReturnValue

from syncchat.net import Refusal
from syncchat.wsgi import accept
from tests.wsgi.talk import SECRET, talk

app = Flask("chat")


@app.get("/")
def page() -> str:
    return "page"


# Flask sends a handshake to such a route only.
@app.get("/live", websocket=True)
def live() -> str:
    with accept(request.environ) as websocket:
        talk(websocket)
    return SECRET


@app.errorhandler(Refusal)
def refused(refusal: Refusal) -> ResponseReturnValue:
    return refusal.text, refusal.status, dict(refusal.headers)
