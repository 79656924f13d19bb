"""Werkzeug's server with threads: python -m tests.wsgi.werkzeug_server MODULE:APP."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys

from werkzeug.serving import make_server


def main() -> None:
    module, _, name = sys.argv[-1].partition(":")
    app = getattr(importlib.import_module(module), name)
    server = make_server("127.0.0.1", 0, app, threaded="--single" not in sys.argv)
    print(f"Running on http://127.0.0.1:{server.port}", flush=True)
    # To a KeyboardInterrupt, as a terminal does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
