"""A Flask application whose workers publish through Redis: its URL is in ``REDIS``."""

from __future__ import annotations

import os

from flask import Flask, request

from syncchat import Publisher

app = Flask("publish")
# Made in the worker, since gunicorn forks before it imports the application.
publisher = Publisher(os.environ["REDIS"])


@app.post("/say")
def say() -> str:
    publisher.say(request.form["text"], room="ops", nick="site", nonce=request.form["nonce"])
    return str(os.getpid())
