"""A real nginx in front of a server, on a socket that is bound before it starts."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.peer import PATIENCE

__all__ = ["NGINX", "Nginx", "needs_nginx"]

#: Debian installs it in a directory that only root's PATH has.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx")

#: Without a master process, nginx does not accept from an inherited socket.
_MAIN = """
daemon off;
worker_processes 1;
user {user} {group};
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


class Nginx:
    """Runs with ``http`` as its ``http`` block; ``{listen}`` in it is replaced by the address."""

    def __init__(self, folder: Path, http: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        config = folder / "nginx.conf"
        http = http.replace("{listen}", f"127.0.0.1:{self.port}")
        # The files of the test must be readable if root runs the tests.
        user = pwd.getpwuid(os.getuid()).pw_name
        group = grp.getgrgid(os.getgid()).gr_name
        config.write_text(_MAIN.format(folder=folder, user=user, group=group, http=http))
        self._command = [str(NGINX), "-p", str(folder), "-c", str(config), "-e", "stderr"]

    def __enter__(self) -> Self:
        # Pass the sockets as a binary upgrade of nginx does, so that the ports stay reserved.
        descriptor = self._socket.fileno()
        self._process = subprocess.Popen(
            self._command,
            pass_fds=[descriptor],
            env={**os.environ, "NGINX": f"{descriptor};"},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._socket.close()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        _, errors = self._process.communicate(timeout=PATIENCE)
        assert "[emerg]" not in errors, errors

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection from that address."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0)
        )
