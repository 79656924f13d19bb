"""Starts nginx with the module nchan. Usage: nchan.py MODULE FOLDER.

MODULE is the path of ``ngx_nchan_module.so``. Messages are kept in its memory for an hour.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

CONFIG = """
load_module {module};
daemon off;
master_process on;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_message_buffer_length 100000;
    nchan_message_timeout 1h;
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{port};
        location = /publish {{
            nchan_publisher http;
            nchan_channel_id arena;
        }}
        location = /subscribe {{
            nchan_subscriber websocket;
            nchan_channel_id arena;
            nchan_subscriber_first_message newest;
            nchan_subscriber_last_message_id $arg_after;
            nchan_websocket_ping_interval 5;
        }}
    }}
}}
"""


def main() -> None:
    module, folder = sys.argv[1], Path(sys.argv[2])
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    config = folder / f"nginx-{os.getpid()}.conf"
    config.write_text(CONFIG.format(module=module, folder=folder, port=port), "utf-8")
    # nginx takes the place of this process, and listens a moment later.
    print(f"listening on port {port}", flush=True)
    os.execv(nginx, [nginx, "-c", str(config), "-e", str(folder / "error.log")])  # noqa: S606


if __name__ == "__main__":
    main()
