"""Uses the window of scripts/examples/tkinter_chat.py as a person does: URL as the argument.

Says what is on the window when it is closed.
"""

from __future__ import annotations

import sys

from tkinter_chat import Window


def main(url: str) -> None:
    window = Window(url, "window")

    def type_line(text: str) -> None:
        window.entry.delete(0, "end")
        window.entry.insert(0, text)
        window.entry.event_generate("<Return>")

    def look() -> None:
        shown = window.lines.get("1.0", "end")
        if "bob: goodbye" in shown:
            window.root.destroy()
            print(shown)
        else:
            window.root.after(50, look)

    window.root.update()
    window.entry.focus_force()
    window.root.after(100, lambda: type_line("/unknown"))
    window.root.after(200, lambda: type_line("hello from the window"))
    window.root.after(50, look)
    window.run()


if __name__ == "__main__":
    main(sys.argv[1])
