"""A dashboard with live numbers: a Flask application in gunicorn, without a build step.

gunicorn --worker-class gthread --threads 100 --bind 127.0.0.1:5000 flask_dashboard:app

Each open page takes one of the threads. One thread more measures, and sends to all pages at once.
"""

from __future__ import annotations

import json
import os
import threading
import time

from flask import Flask, request

from syncchat.net import Group
from syncchat.wsgi import accept

PAGE = """<!doctype html>
<title>Dashboard</title>
<h1>This machine</h1>
<dl>
  <dt>Load</dt><dd id="load"></dd>
  <dt>Pages</dt><dd id="pages"></dd>
  <dt>Orders</dt><dd id="orders"></dd>
</dl>
<script>
  function follow() {
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/live`);
    socket.onmessage = ({data}) => {
      for (const [name, value] of Object.entries(JSON.parse(data)))
        document.getElementById(name).textContent = value;
    };
    socket.onclose = () => setTimeout(follow, 1000);
  }
  follow();
</script>
"""

app = Flask(__name__)
pages = Group()
orders: list[str] = []


def numbers() -> str:
    load, _, _ = os.getloadavg()
    return json.dumps({"load": round(load, 2), "pages": len(pages), "orders": len(orders)})


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/live", websocket=True)
def live() -> str:
    with accept(request.environ) as websocket:
        pages.add(websocket, numbers())
        for _ in websocket:
            pass  # The page says nothing. The loop ends when it is closed.
    return ""


@app.post("/orders")
def order() -> str:
    orders.append(request.form["item"])
    pages.send(numbers())
    return "ordered\n"


def measure() -> None:
    while True:
        time.sleep(1)
        pages.send(numbers())


threading.Thread(target=measure, name="measure", daemon=True).start()
