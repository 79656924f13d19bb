"""What the flags, the environment and the config file say of a server; and its certificate."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Unpack

from ..engine import check_people
from ..server import ChatServer
from ..server_settings import ChatServerSettings
from .certificate import certificate_complaint, lacks_only_the_key, server_context
from .server_flags import SETTINGS
from .settings import Settings, WrongSetting

__all__ = ["BadCertificate", "ServerConfiguration"]


class BadCertificate(WrongSetting):
    """The certificate or its key cannot be used."""


class ServerConfiguration:
    """The settings of the server command. Only one thread at a time may use it."""

    def __init__(self, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
        """Raises as :meth:`read`; exits with a usage error for a wrong command line."""
        self._settings = Settings(parser, SETTINGS)
        self._argv = argv
        self.options = argparse.Namespace()
        self.read()

    def read(self) -> None:
        """Read all sources, and take their values. Without effect if they are wrong.

        Raises :class:`WrongSetting`; the config file or a file that it names may be unreadable.
        """
        options = self._settings.read(self._argv)
        _check(options)
        cert, key = options.tls_cert, options.tls_key
        try:
            self.ssl_context = server_context(cert, key)
        except OSError as exc:
            if key is None and lacks_only_the_key(cert):
                text = f"--tls-cert {cert} contains no private key: set --tls-key"
                raise WrongSetting(text) from None
            why = certificate_complaint(cert, key, exc)
            text = f"cannot use the certificate {cert}: {why}"
            raise (WrongSetting if options.check else BadCertificate)(text) from None
        self.options = options

    def make(self, **more: Unpack[ChatServerSettings]) -> ChatServer:
        """A server with these settings, and ``more``."""
        options = self.options
        settings = ChatServerSettings(
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
            ssl_context=self.ssl_context,
            origins=options.origin,
            public_url=options.public_url,
            trusted_proxies=options.trusted_proxy or None,
            max_message=options.max_message,
            max_fragments=options.max_fragments,
            max_connections=options.max_connections,
            max_connections_per_address=options.max_connections_per_address,
            open_timeout=options.open_timeout,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            guests=options.guests,
            people=options.people,
            robot_rate=options.robot_rate,
            rate=options.rate,
            burst=options.burst,
        )
        settings.update(more)
        return ChatServer(
            options.host,
            options.port,
            token=options.token,
            speaker_token=options.speaker_token_file,
            **settings,
        )


def _check(options: argparse.Namespace) -> None:
    """Raise :class:`WrongSetting` for settings that do not go together."""
    if options.tls_key and not options.tls_cert:
        raise WrongSetting("--tls-key requires --tls-cert")
    try:
        check_people(options.engine, options.people)
    except ValueError as exc:
        raise WrongSetting(f"argument --people: {exc}") from None
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
