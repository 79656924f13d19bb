"""What the flags, the environment and the config file say of a server; and its certificate."""

from __future__ import annotations

import argparse
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Unpack

from ..console import CAN_HAND_OVER
from ..engine import check_people, inspect_engine
from ..errors import EngineUnusable
from ..net import is_loopback
from ..server import ChatServer
from ..server_settings import ChangeableSettings, ChatServerSettings
from .certificate import certificate_complaint, lacks_only_the_key, server_context
from .log_output import check_log, is_journal, log_form
from .server_flags import SETTINGS
from .settings import Settings, WrongSetting, reason

__all__ = ["BadCertificate", "ServerConfiguration"]


#: What changes while the server runs. The value of a file is what it contains.
_CHANGEABLE = (
    "token",
    "token-file",
    "speaker-token-file",
    "origin",
    "public-url",
    "trusted-proxy",
    "tls-cert",
    "tls-key",
    "log-level",
    "log-messages",
    "mask-addresses",
)


#: New connections per second from one address of the network.
_CONNECT_RATE = 20.0


class BadCertificate(WrongSetting):
    """The certificate or its key cannot be used."""


class ServerConfiguration:
    """The settings of the server command. Only one thread at a time may use it."""

    def __init__(self, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
        """Raises :class:`BadCertificate`; exits if another setting is wrong."""
        self._settings = Settings(parser, SETTINGS)
        self._argv = argv
        try:
            self.options, self.ssl_context = self._read()
        except BadCertificate:
            raise
        except WrongSetting as exc:
            self._settings.give_up(exc)

    def _read(self) -> tuple[argparse.Namespace, ssl.SSLContext | None]:
        """The values of all sources, and the certificate.

        Raises :class:`WrongSetting`; the config file or a file that it names may be unreadable.
        """
        options = self._settings.read(self._argv)
        _check(options)
        if options.check:
            _check_files(options)
        return options, _context_of(options)

    def reload(self) -> tuple[list[str], list[str]]:
        """Read all sources again, and take the values that can change while the server runs.

        Returns the names of the settings that have changed, and of those that need a restart.
        Raises :class:`WrongSetting`; then nothing has changed.
        """
        options, context = self._read()
        names = [each.name for group in SETTINGS.values() for each in group]
        before = vars(self.options)
        found = [name for name in names if vars(options)[_dest(name)] != before[_dest(name)]]
        changeable = set(_CHANGEABLE)
        if (context is None) is not (self.ssl_context is None):
            # Connections would begin or cease to be encrypted.
            changeable -= {"tls-cert", "tls-key"}
        else:
            self.ssl_context = context
        changed = [name for name in found if name in changeable]
        taken = {_dest(name): vars(options)[_dest(name)] for name in changed}
        self.options = argparse.Namespace(**before | taken)
        return changed, [name for name in found if name not in changeable]

    def reload_certificate(self) -> None:
        """Read the files of the certificate again. Raises :class:`WrongSetting`."""
        self.ssl_context = _context_of(self.options)

    def changeable(self, output: int | None) -> ChangeableSettings:
        """The settings that a server that runs can change; its log goes to ``output``."""
        options = self.options
        return ChangeableSettings(
            token=options.token,
            speaker_token=options.speaker_token_file,
            ssl_context=self.ssl_context,
            origins=options.origin,
            public_url=options.public_url,
            trusted_proxies=options.trusted_proxy or None,
            **log_form(options, output),
        )

    def make(self, output: int | None, **more: Unpack[ChatServerSettings]) -> ChatServer:
        """A server with these settings, and ``more``, whose log goes to ``output``."""
        options = self.options
        settings = ChatServerSettings(
            log_priorities=is_journal(output),
            greeting=options.greeting,
            read_only=options.read_only,
            echo=options.echo,
            format=options.format,
            notices=options.notices,
            web=options.web,
            http=options.http,
            engine=options.engine,
            keep=options.keep,
            redis_replicas=options.redis_replicas or 0,
            max_rooms=options.max_rooms,
            log_json=options.log_json,
            max_message=options.max_message,
            max_fragments=options.max_fragments,
            max_connections=options.max_connections,
            max_connections_per_address=options.max_connections_per_address,
            connect_rate=_connect_rate(options, more.get("sockets")),
            connect_burst=options.connect_burst,
            max_memory=options.max_memory,
            open_timeout=options.open_timeout,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            guests=options.guests,
            people=options.people,
            robot_rate=options.robot_rate,
            rate=options.rate,
            burst=options.burst,
        )
        every: dict[str, Any] = {**settings, **self.changeable(output), **more}
        return ChatServer(options.host, options.port, **every)


def _connect_rate(options: argparse.Namespace, sockets: Sequence[socket.socket] | None) -> float:
    """The rate limit of new connections from one address; 0.0: none.

    ``sockets`` are those at which the server listens; None: it makes them.
    """
    if options.connect_rate is not None:
        return float(options.connect_rate)
    # On loopback alone, all clients have the same address: programs of this machine, or a proxy.
    if sockets is not None:
        local = all(is_loopback(sock.getsockname()[0]) for sock in sockets)
    else:
        local = options.host in ("127.0.0.1", "::1", "localhost")
    return 0.0 if local else _CONNECT_RATE


def _dest(name: str) -> str:
    return name.replace("-", "_")


def _context_of(options: argparse.Namespace) -> ssl.SSLContext | None:
    """The TLS context; None: no TLS. Raises :class:`WrongSetting`."""
    cert, key = options.tls_cert, options.tls_key
    try:
        return server_context(cert, key)
    except OSError as exc:
        if key is None and lacks_only_the_key(cert):
            text = f"--tls-cert {cert} contains no private key: set --tls-key"
            raise WrongSetting(text) from None
        text = f"cannot use the certificate {cert}: {certificate_complaint(cert, key, exc)}"
        raise (WrongSetting if options.check else BadCertificate)(text) from None


def _check(options: argparse.Namespace) -> None:
    """Raise :class:`WrongSetting` for settings that do not go together."""
    if options.tls_key and not options.tls_cert:
        raise WrongSetting("--tls-key requires --tls-cert")
    try:
        check_people(options.engine, options.people)
    except ValueError as exc:
        raise WrongSetting(f"argument --people: {exc}") from None
    if options.take_over and not CAN_HAND_OVER:
        raise WrongSetting("--take-over needs a system on which processes can hand sockets over")
    if options.workers == 1:
        return
    if options.stdin is not None:
        raise WrongSetting("--stdin needs a server of one process, without --workers")
    if not hasattr(os, "fork"):
        raise WrongSetting("--workers needs a system that can fork processes")
    if options.engine.partition(":")[0] in ("memory", "sqlite"):
        raise WrongSetting(
            "--workers needs an engine that processes can share: --engine redis://HOST:PORT/DB"
        )


def _check_files(options: argparse.Namespace) -> None:
    """Raise :class:`WrongSetting` for files that a start would find unusable."""
    try:
        check_log(options)
    except OSError as exc:
        text = f"cannot write the log to {options.log_file}: {reason(exc)}"
        raise WrongSetting(text) from None
    try:
        inspect_engine(options.engine, options.people)
    except EngineUnusable as exc:
        raise WrongSetting(str(exc)) from None
