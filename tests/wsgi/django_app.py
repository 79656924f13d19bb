"""The Django application: a project in one file."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from syncchat.net import Refusal
from syncchat.wsgi import accept
from tests.wsgi.talk import SECRET, talk


def page(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("page")


def live(request: HttpRequest) -> HttpResponse:
    try:
        with accept(request.META) as websocket:
            talk(websocket)
    except Refusal as refusal:
        return HttpResponse(refusal.text, status=refusal.status, headers=dict(refusal.headers))
    return HttpResponse(SECRET)


urlpatterns = [path("", page), path("live", live)]
settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="x")
app = get_wsgi_application()
