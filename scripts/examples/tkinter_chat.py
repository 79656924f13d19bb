"""A chat window with Tkinter: python tkinter_chat.py [URL [NICK]].

The client has a thread of its own. All calls of Tkinter stay on the main thread: on_event() only
notes that something has come, and the window looks every 50 milliseconds.
"""

from __future__ import annotations

import sys
import threading
import tkinter as tk

from syncchat import Client, ConnectionClosed, OutboxFull


class Window:
    def __init__(self, url: str, nick: str | None = None) -> None:
        self._news = threading.Event()
        self.client = Client(url, nick=nick, history=20, on_event=self._news.set)
        self.root = tk.Tk()
        self.root.title("syncchat")
        self.lines = tk.Text(self.root, width=72, height=20, state="disabled", wrap="word")
        self.lines.pack(fill="both", expand=True)
        self.entry = tk.Entry(self.root)
        self.entry.pack(fill="x")
        self.entry.bind("<Return>", self._send)
        self.entry.focus()

    def run(self) -> None:
        """Show the window until it is closed. Returns when all messages are sent."""
        self.client.connect(wait=True, timeout=30)
        try:
            self._look()
            self.root.mainloop()
        finally:
            for each in self.client.close(timeout=2):
                print(f"not delivered: {each.text}", file=sys.stderr)

    def _send(self, _event: object) -> None:
        try:
            self.client.send_line(self.entry.get(), timeout=0)
        except OutboxFull:
            self._show("-> Too many messages wait for the server.")
        except (ValueError, ConnectionError) as exc:
            self._show(f"-> {exc}")
        else:
            self.entry.delete(0, "end")

    def _look(self) -> None:
        if self._news.is_set():
            self._news.clear()
            try:
                while True:
                    for line in self.client.lines(self.client.receive(timeout=0)):
                        self._show(line)
            except TimeoutError:
                pass  # Nothing else has arrived.
            except ConnectionClosed as exc:
                self._show(f"-> {exc}")
                return
        self.root.after(50, self._look)

    def _show(self, line: str) -> None:
        self.lines["state"] = "normal"
        self.lines.insert("end", line + "\n")
        self.lines["state"] = "disabled"
        self.lines.see("end")


if __name__ == "__main__":
    Window(*(sys.argv[1:] or ["ws://127.0.0.1:2000/"])).run()
