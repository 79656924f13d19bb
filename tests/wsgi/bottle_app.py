"""The Bottle application."""

from __future__ import annotations

import bottle

from syncchat.net import Refusal
from syncchat.wsgi import accept
from tests.wsgi.talk import SECRET, talk

app = bottle.Bottle()


def live() -> str:
    try:
        with accept(bottle.request.environ) as websocket:
            talk(websocket)
    except Refusal as refusal:
        raise bottle.HTTPResponse(refusal.text, refusal.status, refusal.headers) from None
    return SECRET


app.route("/", callback=lambda: "page")
app.route("/live", callback=live)
