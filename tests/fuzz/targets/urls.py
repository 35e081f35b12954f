"""Webhook URLs: one that is accepted leads to the host that was judged, whichever library reads it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.http.egress import MAX_HOST_LENGTH, MAX_URL_LENGTH, check_webhook_url, refusal_reason
from shared.http.request import target
from shared.settings import load_settings
from tests.fuzz.oracles import check_refusal, in_time
from tests.fuzz.target import Target

STRICT = load_settings()
OPEN = load_settings(allow_http=True, allowed_networks="10.0.0.0/8")


def check(data: bytes) -> None:
    """A URL, once for an operator who allows nothing, and once for one with a network of his own."""
    url = data.decode("utf-8", "surrogateescape")
    for settings in (STRICT, OPEN):
        try:
            with in_time(data):
                check_webhook_url(url, settings)
        except InvalidDefinition as refused:
            check_refusal(refused, url)
            continue
        assert len(url) <= MAX_URL_LENGTH
        parts = httpx.URL(url)
        assert parts.scheme == "https" or settings is OPEN
        assert not parts.userinfo
        _check_one_host(parts)
        _check_address(parts.raw_host.decode("ascii"), settings.allowed_networks)


def _check_one_host(parts: httpx.URL) -> None:
    """The sender goes to the host and port that were judged, and writes a request line that is one line."""
    host = parts.raw_host.decode("ascii")
    assert 1 <= len(host) <= MAX_HOST_LENGTH
    sent = target(str(parts))
    assert sent.host.lower() == host.lower(), f"{sent.host!r} and {host!r}"
    assert sent.port == (parts.port or {"http": 80, "https": 443}[parts.scheme])
    assert re.fullmatch(r"POST [!-~]+ HTTP/1\.1\r\nHost: [!-~]+\r\n", sent.head)
    assert (urlsplit(str(parts)).hostname or "").lower() == host.lower()


def _check_address(host: str, allowed: tuple[object, ...]) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        return
    assert refusal_reason(address, allowed) is None  # type: ignore[arg-type]
    assert address.is_global or allowed, "a private address was let through"


_hosts = st.sampled_from(
    [
        *(
            "example.com",
            "EXAMPLE.com.",
            "127.0.0.1",
            "10.1.2.3",
            "8.8.8.8",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0x7f.1",
            "1",
        ),
        *(
            "127.1",
            "2130706433",
            "[64:ff9b::7f00:1]",
            "[2606:4700::1]",
            "bücher.example",
            "a_b.example",
            "xn--.example",
        ),
        *(
            "①②⑦.0.0.1",
            "127。0。0。1",
            "localhost",
            "a" * 64 + ".example",
            "example.com%2f@x",
            "[fe80::1%25eth0]",
            "%31",
        ),
    ]
)
_parts = st.text(alphabet="abAB01.:@/\\?#[]%-_~;,!$&'()*+= é\t\0", max_size=10)
_urls = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["https://", "http://", "HTTPS://", "https:", "https:///", "ftp://", "//", "https:\\\\", ""]),
        st.sampled_from(["", "", "", "user:pw@", "@", "8.8.8.8@", "8.8.8.8#@", "8.8.8.8\\@"]),
        _hosts,
        st.one_of(st.just(""), st.sampled_from([":443", ":0", ":65536", ":", ":08", "/hooks?x=1#y"]), _parts),
    ),
    _parts.map(lambda part: f"https://{part}"),
)

TARGET = Target(
    check,
    inputs=_urls.map(lambda url: url.encode("utf-8", "surrogateescape")),
    words=(
        "https://",
        "http://",
        "127.0.0.1",
        "[::1]",
        "@",
        "\\",
        "%2e",
        "。",
        "0x7f",
        "example.com",
        ":443",
        "xn--",
        "#",
        "?",
    ),
    is_json=False,
)
