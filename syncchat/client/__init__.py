"""The chat client for programs: connect, send, iterate over events, reconnect after a break."""

from .client import Client
from .clients import Clients
from .events import Disconnected, Event, Gap, Line, Reconnected, Sent, ending
from .watched import RoomNews

__all__ = [
    "Client",
    "Clients",
    "Disconnected",
    "Event",
    "Gap",
    "Line",
    "Reconnected",
    "RoomNews",
    "Sent",
    "ending",
]
