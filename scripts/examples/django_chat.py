"""A Django site with a chat on its pages, in one process on one port, without runserver.

python django_chat.py [PORT]

The chat is a ChatServer that serves the site besides: WebSockets come to the chat, all other
requests to Django. A project in several files needs only the last lines, in place of a WSGI server.
"""

from __future__ import annotations

import sys

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.html import escape

from syncchat import ChatServer

PAGE = """<!doctype html>
<title>{room}</title>
<h1>Talk about {room}</h1>
<ul id="lines"></ul>
<form><input id="text" aria-label="Message" autofocus> <button>Send</button></form>
<script>
  const url = `${{location.origin.replace("http", "ws")}}/{room}?history=20`;
  const socket = new WebSocket(url);
  socket.onmessage = ({{data}}) => {{
    const line = document.createElement("li");
    line.textContent = data;
    document.getElementById("lines").append(line);
  }};
  document.querySelector("form").onsubmit = (event) => {{
    event.preventDefault();
    const text = document.getElementById("text");
    socket.send(text.value);
    text.value = "";
  }};
</script>
"""


def talk(_request: HttpRequest, room: str) -> HttpResponse:
    return HttpResponse(PAGE.format(room=escape(room)))


def who(_request: HttpRequest, room: str) -> JsonResponse:
    return JsonResponse({"room": room, "members": chat.members(room)})


def report(request: HttpRequest, room: str) -> HttpResponse:
    chat.say(request.POST["text"], room=room, nick="django")
    return HttpResponse("said\n")


urlpatterns = [
    path("talk/<slug:room>", talk),
    path("talk/<slug:room>/who", who),
    path("talk/<slug:room>/report", report),
]
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"], ROOT_URLCONF=__name__, SECRET_KEY="an example"
)
django.setup()

site = get_wsgi_application()
chat = ChatServer(port=int((sys.argv[1:] or ["8000"])[0]), greeting="", log=print, wsgi=site)

if __name__ == "__main__":
    chat.serve_forever()
