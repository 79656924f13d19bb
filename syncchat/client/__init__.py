"""The chat client for programs: connect, send, iterate over events, reconnect after a break."""

from .client import Client
from .events import Disconnected, Event, Gap, Line, Reconnected, Sent, ending

__all__ = ["Client", "Disconnected", "Event", "Gap", "Line", "Reconnected", "Sent", "ending"]
