"""The forwarding headers of a trusted proxy."""

from __future__ import annotations

import pytest

from syncchat.net.access_policy import LOOPBACK, TrustedProxies
from syncchat.net.address import host_of, origin_of, parse_public_url

PROXY = ("10.0.0.1", 4711)
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])

Headers = list[tuple[bytes, bytes]]


def forwarded(*values: bytes) -> Headers:
    return [(b"forwarded", value) for value in values]


def x_for(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


@pytest.mark.parametrize(
    ("headers", "host", "port"),
    [
        ([], "10.0.0.1", 4711),
        (x_for(b""), "10.0.0.1", 4711),
        (x_for(b"192.0.2.1"), "192.0.2.1", 4711),
        (x_for(b" 192.0.2.1:1234 "), "192.0.2.1", 1234),
        (x_for(b"2001:DB9:0::1"), "2001:db9::1", 4711),
        (x_for(b"[2001:db9::1]"), "2001:db9::1", 4711),
        (x_for(b"[2001:db9::1]:80"), "2001:db9::1", 80),
        (x_for(b"::ffff:192.0.2.1"), "192.0.2.1", 4711),
        # The client's own header comes first.
        (x_for(b"6.6.6.6, 192.0.2.1"), "192.0.2.1", 4711),
        (x_for(b"6.6.6.6", b"192.0.2.1"), "192.0.2.1", 4711),
        (x_for(b"nonsense, 192.0.2.1"), "192.0.2.1", 4711),
        (x_for(b"10.0.0.9, 192.0.2.1"), "192.0.2.1", 4711),
        # Through several proxies.
        (x_for(b"6.6.6.6, 192.0.2.1:99, 10.1.2.3, 2001:db8::5"), "192.0.2.1", 99),
        (x_for(b"10.0.0.9:5, 10.0.0.8"), "10.0.0.9", 5),
        # Without a header, the proxy's address is used.
        (x_for(b"unknown"), "10.0.0.1", 4711),
        (x_for(b"192.0.2.1, unknown, 10.0.0.8"), "10.0.0.8", 4711),
        (x_for(b"192.0.2.1:0"), "192.0.2.1", 4711),
        (x_for(b"192.0.2.1:99999"), "192.0.2.1", 4711),
        (forwarded(b""), "10.0.0.1", 4711),
        (forwarded(b"for=192.0.2.1"), "192.0.2.1", 4711),
        (forwarded(b'For="192.0.2.1:1234";By=10.0.0.1'), "192.0.2.1", 1234),
        (forwarded(b"for=192.0.2.1:1234"), "192.0.2.1", 1234),
        (forwarded(b'for="[2001:db9::1]:80"'), "2001:db9::1", 80),
        (forwarded(rb'for="192\.0.2.1"'), "192.0.2.1", 4711),
        (forwarded(b"for=6.6.6.6, for=192.0.2.1"), "192.0.2.1", 4711),
        (forwarded(b"for=6.6.6.6", b"for=192.0.2.1;;proto=http , "), "192.0.2.1", 4711),
        (forwarded(b"for=192.0.2.1, for=10.0.0.7"), "192.0.2.1", 4711),
        (forwarded(b'for=192.0.2.1;x="a, b;for=6.6.6.6"'), "192.0.2.1", 4711),
        (forwarded(b"for=_hidden"), "10.0.0.1", 4711),
        (forwarded(b'for="_hidden:_p"'), "10.0.0.1", 4711),
        (forwarded(b'for="192.0.2.1:_p"'), "192.0.2.1", 4711),
        (forwarded(b"for=unknown"), "10.0.0.1", 4711),
        (forwarded(b"for=192.0.2.1, proto=http"), "10.0.0.1", 4711),
        # From both headers, if they agree.
        (forwarded(b"for=192.0.2.1") + x_for(b"192.0.2.1:77"), "192.0.2.1", 77),
    ],
)
def test_the_client_is_the_nearest_untrusted_address(
    headers: Headers, host: str, port: int
) -> None:
    """Issue 13, item 22: the address of the client, and its port if the header has it."""
    assert PROXIES.client_of(headers, PROXY).address == (host, port)


@pytest.mark.parametrize(
    "headers",
    [
        x_for(b"nonsense"),
        x_for(b"192.0.2.1, 999.0.0.1"),
        x_for(b"192.0.2.1:x"),
        x_for(b"[192.0.2.1"),
        x_for(b"192.0.2.1 6.6.6.6"),
        x_for(b"\xe4"),
        x_for(b"x" * 10_000),
        forwarded(b"192.0.2.1"),
        forwarded(b"for"),
        forwarded(b"for=192.0.2.1;for=6.6.6.6"),
        forwarded(b'for="192.0.2.1'),
        forwarded(b'for="6.6.6.6, for=192.0.2.1'),
        forwarded(b"for=192.0.2.1 for=6.6.6.6"),
        forwarded(b"for=nonsense"),
        # One header is the proxy's, the other one the client's.
        forwarded(b"for=6.6.6.6") + x_for(b"192.0.2.1"),
        forwarded(b"for=unknown") + x_for(b"192.0.2.1"),
        [(b"x-forwarded-proto", b"gopher")],
        [(b"x-forwarded-host", b"a/b")],
        [(b"x-forwarded-host", b"x" * 300)],
        forwarded(b"for=192.0.2.1;proto=ftp"),
        forwarded(b'for=192.0.2.1;host="a b"'),
    ],
)
def test_headers_without_a_valid_client_are_an_error(headers: Headers) -> None:
    """Issue 13, item 22: a connection is never counted under an address that may be wrong."""
    with pytest.raises(ValueError, match="is not |name different|is neither"):
        PROXIES.client_of(headers, PROXY)


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ([(b"x-forwarded-proto", b"https")], "https", None),
        ([(b"x-forwarded-proto", b"http, HTTPS")], "https", None),
        (
            [(b"x-forwarded-proto", b"wss"), (b"x-forwarded-host", b"a.test:8443")],
            "https",
            "a.test:8443",
        ),
        ([(b"x-forwarded-host", b"evil.test, a.test")], None, "a.test"),
        (forwarded(b"for=10.0.0.1;proto=https;host=a.test"), "https", "a.test"),
        (forwarded(b'for=10.0.0.1;proto=http;host="[::1]:80"'), "http", "[::1]:80"),
        # The values of the proxy to which the client connects.
        (
            forwarded(b"for=10.1.1.1;proto=https;host=a.test, for=10.0.0.1;proto=http;host=b.test"),
            "https",
            "a.test",
        ),
        (x_for(b"10.0.0.1") + forwarded(b"for=10.0.0.1;proto=https"), None, None),
    ],
)
def test_scheme_and_host_are_those_of_the_clients_request(
    headers: Headers, scheme: str | None, host: str | None
) -> None:
    """Issue 13, item 22: the scheme and the host that the client used."""
    client = PROXIES.client_of(headers, PROXY)
    assert (client.scheme, client.host) == (scheme, host)


def test_only_networks_and_addresses_can_be_trusted() -> None:
    """Issue 13, item 22: addresses and networks; none by default."""
    loopback = TrustedProxies(LOOPBACK)
    assert all(map(loopback.trusts, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(loopback.trusts, ["128.0.0.1", "::2", "fe80::1%eth0"]))
    assert TrustedProxies(["192.0.2.7"]).trusts("192.0.2.7")
    assert not TrustedProxies(["192.0.2.7"]).trusts("192.0.2.8")
    assert not TrustedProxies().trusts("127.0.0.1")
    for mistake in ("proxy.example", "", "10.0.0.1/8", "10.0.0.0/99", "10.0.0.0/8,::1"):
        with pytest.raises(ValueError, match="is not an IP address or a network such as"):
            TrustedProxies([mistake])


@pytest.mark.parametrize(
    ("text", "url", "origin", "host"),
    [
        ("https://a.test", "https://a.test/", "https://a.test", "a.test"),
        ("HTTPS://A.Test:443/", "https://a.test/", "https://a.test", "a.test"),
        ("http://a.test:8080/x/y", "http://a.test:8080/x/y/", "http://a.test:8080", "a.test"),
        ("http://a.test/Chat//", "http://a.test/Chat/", "http://a.test", "a.test"),
        ("http://[0::1]:80/", "http://[::1]/", "http://[::1]", "::1"),
        ("http://\xe4.test", "http://xn--4ca.test/", "http://xn--4ca.test", "xn--4ca.test"),
    ],
)
def test_a_public_url_has_an_origin_and_a_host(text: str, url: str, origin: str, host: str) -> None:
    """Issue 13, item 22: every spelling of a URL gives the same result."""
    assert parse_public_url(text) == url
    assert origin_of(url) == origin
    assert host_of(origin.partition("//")[2]) == host


@pytest.mark.parametrize(
    "text",
    ["", "chat.example", "wss://chat.example", "https://", "https://a@chat.example", "https://a:0",
     "https://chat.example/?q", "https://chat.example/#f", "https://chat.example/a b",
     "https://chat.example/\x1b", "https://[::1", "*", "https://*.example"],
)  # fmt: skip
def test_an_invalid_public_url_is_an_error(text: str) -> None:
    """Issue 13, item 22."""
    with pytest.raises(
        ValueError, match="is not a public URL: it must be http:// or https:// and a host"
    ):
        parse_public_url(text)
