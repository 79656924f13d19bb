"""Settings: flags override the environment, which overrides the config file; short URLs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from syncchat.cli.client import complete_url
from tests.processes import CLIENT, SERVER, ServerScript, Terminal, run


def write(folder: Path, text: str) -> dict[str, str]:
    """The environment for a client with this config file."""
    (folder / "syncchat").mkdir()
    (folder / "syncchat" / "config.toml").write_text(text, "utf-8")
    return {"XDG_CONFIG_HOME": str(folder)}


def test_flags_override_the_environment_and_that_overrides_the_file(tmp_path: Path) -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        changes = write(tmp_path, f'nick = "file"\nurl = "127.0.0.1:{server.port}/ops"\n')
        by_file = run(CLIENT, "hello\n", **changes)
        assert (by_file.stdout, by_file.returncode) == ("file: hello\n", 0)
        by_variable = run(CLIENT, "hello\n", SYNCCHAT_NICK="variable", **changes)
        assert by_variable.stdout == "variable: hello\n"
        by_flag = run([*CLIENT, "--nick", "flag"], "hello\n", SYNCCHAT_NICK="variable", **changes)
        assert by_flag.stdout == "flag: hello\n"
        # An empty variable counts as not set.
        assert run(CLIENT, "x\n", SYNCCHAT_NICK="", **changes).stdout == "file: x\n"


def test_the_token_comes_from_the_source_with_precedence(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    with ServerScript("--token", "s3cret", "--no-notices", "--greeting", "") as server:
        changes = write(tmp_path, 'token = "from the file, and wrong"\nnick = "ann"\n')
        command = [*CLIENT, server.url]
        for flags, variables in [
            (["--token-file", str(secret)], {"SYNCCHAT_TOKEN": "wrong"}),
            ([], {"SYNCCHAT_TOKEN_FILE": str(secret)}),
            (["--token", "s3cret"], {"SYNCCHAT_TOKEN_FILE": "/nonexistent"}),
        ]:
            result = run([*command, *flags], "x\n", **changes, **variables)
            assert result.stdout == "ann: x\n", result.stderr


def test_help_works_with_an_invalid_config_file(tmp_path: Path) -> None:
    changes = write(tmp_path, "nonsense")
    result = run([*CLIENT, "--help"], **changes)
    assert result.returncode == 0
    assert str(tmp_path / "syncchat" / "config.toml") in "".join(result.stdout.split())


def test_the_config_file_has_every_kind_of_setting(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    with ServerScript("--token", "s3cret", "--no-notices") as server:
        changes = write(
            tmp_path,
            f"""
            # My settings.
            url = "127.0.0.1:{server.port}"
            nick = "ann"
            history = 3
            prefix = "| "
            token-file = "{tmp_path / "secret"}"
            color = "never"
            bell = "off"
            timestamps = true
            reconnect = false
            """,
        )
        with Terminal(home=tmp_path, changes=changes) as client:
            client.wait_for_line(r"\d\d:\d\d \| Welcome to chat! Type a message")
            client.type("/bell\rhello\r")
            client.wait_for_line(r"\d\d:\d\d -> The bell is set to off\.")
            client.wait_for_line(r"\d\d:\d\d \| ann: hello")
            server.signal(signal.SIGINT)
            assert client.exit_code() == 1
            assert b"[0;38;" not in client.written
        # A switch of the file is turned off by its flag.
    with ServerScript("--token", "s3cret", "--no-notices") as server:
        url = f"127.0.0.1:{server.port}"
        with Terminal(url, "--no-timestamps", home=tmp_path, changes=changes) as client:
            client.wait_for_line(r"\| Welcome to chat! Type a message")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nick = ", "cannot read the config file "),
        ("\xff", "cannot read the config file "),
        ('nikc = "ann"', "unknown key 'nikc'; did you mean nick?"),
        ('version = "1"', "unknown key 'version'; the keys are url, nick, history,"),
        ("nick = true", "nick must be a string or a number"),
        ('nick = ["a"]', "nick must be a string or a number"),
        ('timestamps = "yes"', "timestamps must be true or false"),
        ("json = 1", "json must be true or false"),
        ('nick = "a b"', "A nick must be one word"),
        ('bell = "loud"', "must be one of off, mention, all, not 'loud'"),
        ('token = "a"\ntoken-file = "b"', "token and token-file are mutually exclusive"),
        ("history = -1", "must be a non-negative integer, not '-1'"),
        ("history = " + "1" * 4400, ": a number has too many digits\n"),
        ("history = 0x" + "f" * 4000, ": history has too many digits\n"),
    ],
)
def test_an_error_in_the_config_file_names_the_file(
    tmp_path: Path, text: str, complaint: str
) -> None:
    changes = write(tmp_path, "")
    path = tmp_path / "syncchat" / "config.toml"
    path.write_bytes(text.encode("latin-1"))
    result = run(CLIENT, **changes)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_an_overridden_value_of_the_config_file_is_not_checked(tmp_path: Path) -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        changes = write(tmp_path, 'nick = "a b"\n')
        result = run([*CLIENT, server.url, "--nick", "ann"], "hello\n", **changes)
        assert result.stdout == "ann: hello\n"


@pytest.mark.parametrize(
    ("short", "url"),
    [
        ("host", "ws://host:2000"),
        ("host/room", "ws://host:2000/room"),
        ("host:8080", "ws://host:8080"),
        ("host:8080/room", "ws://host:8080/room"),
        ("host:8080/room?nick=ann&history=3", "ws://host:8080/room?nick=ann&history=3"),
        ("host?nick=ann", "ws://host:2000?nick=ann"),
        ("127.0.0.1", "ws://127.0.0.1:2000"),
        ("127.0.0.1:2001/a:b", "ws://127.0.0.1:2001/a:b"),
        ("localhost/a:b", "ws://localhost:2000/a:b"),
        ("[::1]", "ws://[::1]:2000"),
        ("[::1]:8080/room", "ws://[::1]:8080/room"),
        ("::1", "ws://[::1]:2000"),
        ("::1/room", "ws://[::1]:2000/room"),
        ("chat.example.org", "ws://chat.example.org:2000"),
        ("ws://host/room", "ws://host/room"),
        ("wss://host", "wss://host"),
        ("WS://host", "WS://host"),
    ],
)
def test_a_url_may_be_short(short: str, url: str) -> None:
    assert complete_url(short, "") == url


@pytest.mark.parametrize(
    "text", ["", ":8080", "/room", "host:", "host:0", "host:99999", "two words", "a@b", "http://x"]
)
def test_an_invalid_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        complete_url(text, "")


def test_a_short_url_reaches_the_room() -> None:
    with ServerScript("--no-notices", "--greeting", "") as server:
        run([*CLIENT, f"127.0.0.1:{server.port}/ops", "--nick", "ann"], "hello\n")
        result = run([*CLIENT, f"127.0.0.1:{server.port}/ops", "--history", "1"], "")
        assert result.stdout in ("ann: hello\n", "")
        port = {"SYNCCHAT_PORT": str(server.port)}
        result = run([*CLIENT, "127.0.0.1/ops", "--nick", "bob"], "hi\n", **port)
        assert result.stdout == "bob: hi\n"


def test_the_server_has_a_config_file_that_flags_and_variables_override(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(
        # Some editors begin a file with a byte order mark.
        '\ufeffgreeting = "file"\nport = 1\nrate = 2.5\nnotices = false\n'
        'read-only = ["ops", "news"]\n',
        "utf-8",
    )
    with ServerScript("--config", str(path), SYNCCHAT_GREETING="variable") as server:
        result = run([*CLIENT, f"{server.url}ops"], "hello\n")
        assert "\nvariable\n" in result.stderr
        assert "ops is read-only" in result.stderr
    checked = run([*SERVER, "--check"], SYNCCHAT_CONFIG=str(path))
    assert (checked.returncode, checked.stdout, checked.stderr) == (
        0,
        "the settings are right\n",
        "",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prot = 2000", "{path}: unknown key 'prot'; did you mean port?"),
        ("port = 70000", "{path}: port: must be a port number from 0 to 65535, not '70000'"),
        ("origin = [1]", "{path}: origin must be a string, or an array of strings"),
        ("check = true", "{path}: unknown key 'check'"),
        ('tls-cert = "/nonexistent"', "cannot use the certificate /nonexistent: "),
        ("port = ", "cannot read the config file {path}: "),
        ("x = " + "[" * 100_000, "file {path}: its values are nested too deeply"),
        ("\xff", "cannot read the config file {path}: not UTF-8 text"),
        ('token-file = "a\\u0000"', "{path}: token-file must not contain a NUL"),
        ('read-only = ["a\\u0000"]', "{path}: read-only must not contain a NUL"),
        ('token-file = "/dev/zero"', "from /dev/zero: it is larger than 1,048,576 bytes"),
        ('token-file = "a\\n\\u001b[1m"', "cannot read the token from a\\n\\x1b[1m: no such file"),
        ('tls-cert = "/dev/zero"', "the certificate /dev/zero: it contains no PEM certificate"),
        ('tls-key = "key.pem"', "--tls-key requires --tls-cert"),
        ('log-file = "/nonexistent/log"', "the log to /nonexistent/log: no such file or directory"),
        ('log-file = "/"', "cannot write the log to /: is a directory"),
        ('engine = "sqlite:/nonexistent/x"', "the directory /nonexistent does not exist"),
        (f'engine = "sqlite:{"x" * 5000}"', "x: file name too long"),
        ('people = "/etc/passwd"', "cannot use /etc/passwd: file is not a database"),
        (None, "cannot read the config file {path}: no such file or directory"),
    ],
)
def test_a_wrong_config_file_of_the_server_is_told_in_one_line(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    path = tmp_path / "server.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    result = run([*SERVER, "--check", "--config", str(path)])
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert complaint.format(path=path) in line
