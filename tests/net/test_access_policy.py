"""Admission: tokens, origins, host names, and the server's own authorize()."""

from __future__ import annotations

import json
import logging
import os
import re
from http import HTTPStatus
from pathlib import Path

import pytest
from wsproto.events import TextMessage

from syncchat import ChatServer, Client, HandshakeRefused
from syncchat.net import Refusal, Request, WebSocket, connect, serve
from syncchat.net.access_policy import AccessPolicy
from tests.peer import Peer, ask_http
from tests.processes import CLIENT, SERVER, Script, run


def echo(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


def request(host: str = "localhost:2000", origin: str | None = None) -> Request:
    headers = () if origin is None else ((b"origin", origin.encode("latin-1")),)
    return Request("/", headers, host)


def is_let_in(admission: AccessPolicy, asked: Request) -> bool:
    try:
        admission.check(asked)
    except Refusal:
        return False
    return True


@pytest.mark.parametrize(
    ("origin", "host", "welcome"),
    [
        (None, "chat.example", True),
        ("http://chat.example", "chat.example", True),
        ("http://chat.example:80", "chat.example", True),
        ("https://chat.example", "chat.example:443", True),
        ("http://CHAT.example:2000", "chat.EXAMPLE:2000", True),
        ("http://[::1]:2000", "[::1]:2000", True),
        ("http://chat.example:2001", "chat.example:2000", False),
        ("http://evil.example", "chat.example", False),
        ("http://chat.example.evil.example", "chat.example", False),
        ("null", "chat.example", False),
        ("", "chat.example", False),
        ("file://chat.example", "chat.example", False),
        ("http://[", "chat.example", False),
        ("\xe4", "chat.example", False),
        ("https://named.example", "chat.example", True),
        ("HTTPS://Named.Example/", "chat.example", True),
        ("http://named.example", "chat.example", False),
    ],
)
def test_an_origin_must_be_the_servers_own_or_allowed(
    origin: str | None, host: str, welcome: bool
) -> None:
    admission = AccessPolicy("0.0.0.0", [("0.0.0.0", 2000)], ["https://named.example"], None)
    assert is_let_in(admission, request(host, origin)) == welcome


@pytest.mark.parametrize(
    ("host", "welcome"),
    [
        ("127.0.0.1:2000", True), ("localhost", True), ("LOCALHOST:2000", True),
        ("[::1]:2000", True), ("my.localhost:1", True), ("chat.test", True), ("box:2000", True),
        ("192.168.1.5:2000", True),
        ("evil.example", False), ("evil.example:2000", False), ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
    ],
)  # fmt: skip
def test_a_server_on_loopback_accepts_its_own_names_only(host: str, welcome: bool) -> None:
    addresses = [("127.0.0.1", 2000), ("::1", 2000)]
    assert is_let_in(AccessPolicy("chat.test", addresses, [], None), request(host)) == welcome
    everywhere = AccessPolicy("chat.test", [*addresses, ("0.0.0.0", 2000)], [], None)
    assert is_let_in(everywhere, request(host))


def test_a_foreign_origin_is_refused_with_403() -> None:
    with serve(echo) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with pytest.raises(HandshakeRefused) as caught:
            connect(url, headers=[("Origin", "https://evil.example")])
        assert caught.value.status == 403
        connect(url, headers=[("Origin", f"http://127.0.0.1:{server.port}")]).close()
        assert server.stats().refused == {"403": 1}


def test_authorize_decides_last(caplog: pytest.LogCaptureFixture) -> None:
    def authorize(asked: Request) -> None:
        if asked.path == "/teapot":
            raise Refusal(HTTPStatus.IM_A_TEAPOT, "No coffee here.")
        if asked.path == "/broken":
            raise LookupError("authorize's own")

    with serve(echo, authorize=authorize) as server:
        url = f"ws://127.0.0.1:{server.port}"
        connect(url + "/fine").close()
        with pytest.raises(HandshakeRefused, match="418: No coffee here"):
            connect(url + "/teapot")
        with caplog.at_level(logging.ERROR), pytest.raises(HandshakeRefused) as caught:
            connect(url + "/broken")
        assert caught.value.status == 500
        assert "authorize's own" in caplog.text


# The chat's token.


@pytest.mark.parametrize(
    ("query", "header"),
    [("", "Authorization: Bearer s3cret\r\n"), ("?token=s3cret", ""),
     ("?nick=x&token=s3cret", "Authorization: Basic xyz\r\n"),
     ("", "authorization: bearer  s3cret\r\n")],
)  # fmt: skip
def test_a_client_with_the_token_is_accepted(query: str, header: str) -> None:
    with (
        ChatServer(port=0, token="s3cret") as chat,
        Peer.client(chat.port, "/" + query, header) as peer,
    ):
        assert peer.expect(TextMessage).data.startswith("Welcome")


@pytest.mark.parametrize(
    ("query", "token"),
    [("", None), ("", "wrong"), ("?token=", None), ("?token=s3cre", None),
     ("?token=s3cret%20", None), ("?token=%FF%00", "s3cret s3cret")],
)  # fmt: skip
def test_a_client_without_the_token_gets_401_and_the_log_does_not_contain_it(
    query: str, token: str | None
) -> None:
    lines: list[str] = []
    with ChatServer(port=0, token="s3cret", log=lines.append) as chat:
        with pytest.raises(HandshakeRefused) as caught:
            Client(f"ws://127.0.0.1:{chat.port}/{query}", token=token).connect()
        assert caught.value.status == 401
        Client(f"ws://127.0.0.1:{chat.port}/?token=s3cret").connect().close()
        assert chat.stats().refused == {"401": 1}
    assert len([line for line in lines if line.startswith("Refused")]) == 1
    assert "s3cre" not in " ".join(lines)


@pytest.mark.parametrize(
    ("query", "header", "text", "challenge"),
    [
        ("", {}, "A token is required.", "Bearer"),
        ("?token=", {}, "A token is required.", "Bearer"),
        ("", {"Authorization": "Bearer"}, "A token is required.", "Bearer"),
        ("", {"Authorization": "Basic czNjcmV0"}, "A token is required.", "Bearer"),
        ("?token=wrong", {}, "The token is wrong.", 'Bearer error="invalid_token"'),
        ("", {"Authorization": "bearer x"}, "The token is wrong.", 'Bearer error="invalid_token"'),
    ],
)
def test_a_wrong_and_a_missing_token_are_told_apart(
    query: str, header: dict[str, str], text: str, challenge: str
) -> None:
    """Issue 13, item 16: a wrong token is told apart from a missing one."""
    with ChatServer(port=0, token="s3cret") as chat:
        status, headers, body = ask_http(chat.port, f"/-/auth{query}", **header)
        assert (status, json.loads(body)) == (401, {"error": text})
        assert headers["www-authenticate"] == challenge
        with pytest.raises(HandshakeRefused, match=f"401: {text}"):
            connect(f"ws://127.0.0.1:{chat.port}/{query}", headers=list(header.items()))


@pytest.mark.parametrize("command", [SERVER, CLIENT])
def test_two_tokens_from_one_source_are_a_usage_error(command: list[str], tmp_path: Path) -> None:
    """Issue 13, item 16."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n", "utf-8")
    flags = ["--token", "s3cret", "--token-file", str(secret)]
    variables = {"SYNCCHAT_TOKEN": "s3cret", "SYNCCHAT_TOKEN_FILE": str(secret)}
    by_flags = run([*command, *flags])
    by_variables = run(command, **variables)
    assert (by_flags.returncode, by_variables.returncode) == (2, 2)
    assert by_flags.stderr.splitlines()[-1].endswith(
        "error: --token and --token-file are mutually exclusive"
    )
    assert by_variables.stderr.splitlines()[-1].endswith(
        "error: SYNCCHAT_TOKEN and SYNCCHAT_TOKEN_FILE are mutually exclusive"
    )


def test_the_token_by_flag_file_and_environment(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n", "utf-8")
    for flags, changes in (
        (["--token", "s3cret"], {}),
        (["--token-file", str(secret)], {}),
        ([], {"SYNCCHAT_TOKEN": "s3cret"}),
        ([], {"SYNCCHAT_TOKEN_FILE": str(secret)}),
    ):
        with Script([*SERVER, "--port", "0", *flags], **changes) as server:
            port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
            url = f"ws://127.0.0.1:{port}/"
            with Script([*CLIENT, url, *flags], **changes) as client:
                client.wait_for_line("Welcome.*", errors=True)
            with Script([*CLIENT, url + "?token=gu3ss"]) as stranger:
                assert stranger.exit_code() == 1
                assert stranger.errors == [
                    f"cannot join the chat at {url}: HTTP status 401: The token is wrong."
                ]
            assert not any("s3cret" in line or "gu3ss" in line for line in server.lines)


def test_an_origin_from_flag_or_environment_is_accepted() -> None:
    with Script(
        [*SERVER, "--port", "0", "--origin", "https://a.example", "--origin", "https://b.example"],
        SYNCCHAT_ORIGIN="https://c.example https://d.example",
    ) as server:
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        for name in "abcd":
            with Peer.client(port, headers=f"Origin: https://{name}.example\r\n") as peer:
                assert peer.expect(TextMessage).data.startswith("Welcome")
        with pytest.raises(HandshakeRefused):
            connect(f"ws://127.0.0.1:{port}/", headers=[("Origin", "https://e.example")])


def test_commas_and_blanks_separate_origins() -> None:
    """Issue 13, item 15: in the flag and in the variable; a trailing slash is ignored."""
    with Script(
        [*SERVER, "--port", "0", "--origin", "https://a.example,HTTPS://B.example:443/"],
        SYNCCHAT_ORIGIN="https://c.example, https://d.example\nhttp://[0:0::1]:8080,",
    ) as server:
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        named = [f"https://{name}.example" for name in "abcd"]
        for origin in [*named, "http://[::1]:8080"]:
            with Peer.client(port, headers=f"Origin: {origin}\r\n") as peer:
                assert peer.expect(TextMessage).data.startswith("Welcome")


NO_ORIGINS = [
    "foo", "", "null", "chat.example", "//chat.example", "ftp://chat.example", "ws://chat.example",
    "https://", "https:chat.example", "https://chat.example/room", "https://chat.example?",
    "https://chat.example#x", "https://ann@chat.example", "https://chat.example:0",
    "https://chat.example:port", "https://chat.example:99999", "https://[::1", "https://[x]",
    "https://*.example", "https://ch\\at.example", "https://chat..example",
]  # fmt: skip


@pytest.mark.parametrize("origin", [*NO_ORIGINS, "https://a.example https://b.example"])
def test_an_invalid_origin_is_refused_at_the_start(origin: str) -> None:
    """Issue 13, item 15: the library checks origins at the start, too."""
    with pytest.raises(
        ValueError, match="is not an origin: it must be http:// or https:// and a host"
    ):
        serve(echo, origins=[origin])
    with pytest.raises(ValueError, match="is not an origin"):
        ChatServer(port=0, origins=["https://chat.example", origin])


@pytest.mark.parametrize("origin", ["foo", "", "https://chat.example/room", "https://[::1"])
def test_an_invalid_origin_in_flag_or_variable_is_a_usage_error(origin: str) -> None:
    """Issue 13, item 15: the error names the flag or the variable."""
    given = f"https://a.example,{origin}" if origin else origin
    by_flag = run([*SERVER, "--origin", given])
    assert by_flag.returncode == 2
    assert f"argument --origin: {origin!r} is not an origin: " in by_flag.stderr
    if origin:
        by_variable = run(SERVER, SYNCCHAT_ORIGIN=given)
        assert by_variable.returncode == 2
        assert f"argument --origin: {origin!r} is not an origin: " in by_variable.stderr
        assert "(in SYNCCHAT_ORIGIN)" in by_variable.stderr


def test_a_star_is_not_an_origin() -> None:
    """Issue 13, item 15: ``*`` is refused with the reason."""
    result = run([*SERVER, "--origin", "*"])
    assert result.returncode == 2
    assert "'*' would allow every web page: list each origin" in result.stderr


@pytest.mark.parametrize("token", [" ", "\xe4", "a\nb"])
def test_a_token_that_fits_into_no_header_is_a_usage_error(token: str) -> None:
    with Script([*SERVER, "--port", "0"], SYNCCHAT_TOKEN=token) as server:
        assert server.exit_code() == 2
        assert re.search("printable ASCII", server.errors[-1])
    empty = token == " "
    with Script([*CLIENT, "--token-file", os.devnull if empty else "/nowhere/token"]) as client:
        assert client.exit_code() == 2
        complaint = f"{os.devnull} is empty" if empty else "no such file"
        assert complaint in client.errors[-1]
