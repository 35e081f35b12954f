"""Where requests may go: every special range, every odd spelling, and what the operator allows."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.setting_types import Network
from shared.domain.errors import InvalidDefinition
from shared.http.egress import EgressGuard, check_webhook_url, refusal_reason
from shared.http.exceptions import EgressBlocked
from shared.settings import Settings, load_settings

# The special-purpose registries of IANA, and what else no webhook is at; first and last address of each.
REFUSED = {
    "this network": ("0.0.0.0", "0.255.255.255"),
    "private, 10": ("10.0.0.0", "10.255.255.255"),
    "carrier-grade NAT": ("100.64.0.0", "100.100.100.200", "100.127.255.255"),
    "loopback": ("127.0.0.0", "127.0.0.1", "127.255.255.255"),
    "link-local": ("169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255"),
    "private, 172.16": ("172.16.0.0", "172.31.255.255"),
    "protocol assignments": ("192.0.0.0", "192.0.0.192", "192.0.0.255"),
    "Azure's host services": ("168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110"),
    "documentation 1": ("192.0.2.0", "192.0.2.255"),
    "6to4 relay": ("192.88.99.0", "192.88.99.255"),
    "private, 192.168": ("192.168.0.0", "192.168.255.255"),
    "benchmarking": ("198.18.0.0", "198.19.255.255"),
    "documentation 2": ("198.51.100.0", "198.51.100.255"),
    "documentation 3": ("203.0.113.0", "203.0.113.255"),
    "multicast": ("224.0.0.0", "233.252.0.1", "239.255.255.255"),
    "reserved": ("240.0.0.0", "255.255.255.254"),
    "broadcast": ("255.255.255.255",),
    "unspecified, v6": ("::",),
    "loopback, v6": ("::1",),
    "IPv4-compatible": ("::127.0.0.1", "::8.8.8.8"),
    "IPv4-mapped loopback": ("::ffff:127.0.0.1", "::ffff:7f00:1"),
    "IPv4-mapped private": ("::ffff:10.1.2.3", "::ffff:169.254.169.254", "::ffff:100.64.0.1", "::ffff:224.0.0.1"),
    "IPv4-translated": ("::ffff:0:127.0.0.1",),
    "NAT64 of what is not public": ("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::e000:1"),
    "NAT64, local": ("64:ff9b:1::", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    "discard": ("100::", "100::ffff"),
    "Teredo": ("2001::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
    "benchmarking, v6": ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
    "ORCHID": ("2001:10::", "2001:20::1"),
    "documentation, v6": ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    "documentation, new": ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "6to4": ("2002::", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::", "2002:ffff::"),
    "segment routing": ("5f00::1",),
    "not assigned": ("4000::1", "8000::1", "e000::1"),
    "unique local": ("fc00::", "fd00:ec2::254", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "link-local, v6": ("fe80::", "fe80::a9fe:a9fe", "febf::1"),
    "site-local": ("fec0::1", "feff::1"),
    "multicast, v6": ("ff00::", "ff02::1", "ff0e::1"),
}
PUBLIC_V4 = (
    "1.1.1.1 8.8.8.8 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 172.15.255.255"
)
MORE_V4 = "172.32.0.0 192.0.1.0 192.88.100.0 198.17.255.255 203.0.114.0 223.255.255.255"
PUBLIC_V6 = "2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450::1 2400:: 2003::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8"
PUBLIC = f"{PUBLIC_V4} {MORE_V4} {PUBLIC_V6}".split()


PRIVATE = "is not a public address, and HOOKLINE_ALLOWED_NETWORKS does not allow it"


def addr_info(text: str, port: int = 443) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    where = (text, port, 0, 0) if ":" in text else (text, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)


def configured(allowed: str = "", **others: Any) -> Settings:
    return load_settings(allowed_networks=allowed, **others)


def networks(text: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, text.split(",")))


def blocked(make: Callable[[tuple[Any, ...]], socket.socket], text: str, port: int = 443) -> str:
    """Why the guard makes no socket for an address."""
    with pytest.raises(EgressBlocked) as caught:
        make(addr_info(text, port))
    return caught.value.reason


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in REFUSED.items() for text in texts])
def test_no_request_goes_to_a_special_address(kind: str, text: str) -> None:
    reason = refusal_reason(ip_address(text), ())
    assert reason is not None, kind
    assert reason.endswith(" is not a public address, and HOOKLINE_ALLOWED_NETWORKS does not allow it")
    guard = EgressGuard(configured(allow_http=True))
    for make in (guard.tls_socket, guard.plain_socket):
        assert blocked(make, text) == f"the host's address {PRIVATE}"


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_open(text: str) -> None:
    assert refusal_reason(ip_address(text), ()) is None
    EgressGuard(configured()).tls_socket(addr_info(text)).close()
    EgressGuard(configured(allow_http=True)).plain_socket(addr_info(text)).close()


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_in_every_clothing(address: IPv4Address) -> None:
    reason = refusal_reason(address, ()) is None
    assert (refusal_reason(IPv6Address(f"::ffff:{address}"), ()) is None) is reason
    assert (refusal_reason(IPv6Address(f"64:ff9b::{address}"), ()) is None) is reason
    if not reason:
        return
    assert address.is_global
    assert not address.is_multicast
    assert not address.is_reserved


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_is_open_only_where_public_hosts_are(address: IPv6Address) -> None:
    if refusal_reason(address, ()) is None:
        assert address in ip_network("2000::/3") or address in ip_network("64:ff9b::/96") or address.ipv4_mapped
        assert not (address.is_multicast or address.is_link_local or address.is_site_local or address.is_loopback)


@pytest.mark.parametrize(
    ("allowed", "opened", "closed"),
    [
        ("10.1.0.0/16", "10.1.0.0,10.1.255.255,::ffff:10.1.2.3,64:ff9b::10.1.2.3", "10.0.255.255,10.2.0.0,127.0.0.1"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2,::1"),
        ("::1/128", "::1", "127.0.0.1,::2,::"),
        ("fd00::/8", "fd00::1,fdff::1", "fc00::1,fe80::1"),
        ("fe80::/10", "fe80::1", "fec0::1"),
        ("0.0.0.0/0", "169.254.169.254,255.255.255.255,::ffff:127.0.0.1", "::1,fe80::1"),
        # All of IPv6 does not open what is IPv4 in fact.
        ("::/0", "::1,fe80::1,2002:7f00:1::", "127.0.0.1,::ffff:127.0.0.1,64:ff9b::127.0.0.1"),
        ("10.0.0.0/8,192.168.1.0/24", "10.0.0.1,192.168.1.255", "192.168.2.0,172.16.0.1"),
    ],
)
def test_allowed_networks_open_what_they_name_and_nothing_else(allowed: str, opened: str, closed: str) -> None:
    guard = EgressGuard(configured(allowed))
    for text in opened.split(","):
        assert refusal_reason(ip_address(text), networks(allowed)) is None
        guard.tls_socket(addr_info(text)).close()
    for text in closed.split(","):
        assert refusal_reason(ip_address(text), networks(allowed)) is not None
        assert blocked(guard.tls_socket, text)


def test_plain_http_goes_to_allowed_networks_unless_the_operator_wants_more() -> None:
    guard = EgressGuard(configured("10.0.0.0/8,2606:4700::/32"))
    for text in ("10.0.0.1", "::ffff:10.0.0.1", "2606:4700::1"):
        guard.plain_socket(addr_info(text)).close()
    needs = "plain http to this host needs HOOKLINE_ALLOW_HTTP=1 or its address in HOOKLINE_ALLOWED_NETWORKS"
    assert blocked(guard.plain_socket, "8.8.8.8") == needs
    assert blocked(guard.plain_socket, "::ffff:8.8.8.8") == needs
    anywhere = EgressGuard(configured(allow_http=True))
    anywhere.plain_socket(addr_info("8.8.8.8")).close()
    assert blocked(anywhere.plain_socket, "10.0.0.1") == f"the host's address {PRIVATE}"


@pytest.mark.parametrize(
    "text", ["2130706433", "127.1", "0x7f.1", "134744072", "8.8.8.8.", "example.com", "", "1.2.3.4.5"]
)
def test_what_is_no_plain_address_gets_no_socket(text: str) -> None:
    guard = EgressGuard(configured("0.0.0.0/0", allow_http=True))
    for make in (guard.tls_socket, guard.plain_socket):
        assert blocked(make, text) == "the host is not an address in its usual form"


def port_refusal(port: int, ports: str = "80,443,1024-65535") -> str:
    return f"port {port} is none that webhooks may use: HOOKLINE_ALLOWED_PORTS is {ports}"


@pytest.mark.parametrize("host", ["8.8.8.8", "10.0.0.1", "::ffff:8.8.8.8", "2606:4700::1"])
def test_no_socket_is_made_for_a_port_that_is_not_for_webhooks(host: str) -> None:
    guard = EgressGuard(configured("10.0.0.0/8", allow_http=True))
    for make in (guard.tls_socket, guard.plain_socket):
        for port in (1, 22, 25, 53, 79, 81, 442, 444, 1023):
            assert blocked(make, host, port) == port_refusal(port)
        for port in (80, 443, 1024, 6379, 8443, 65535):
            make(addr_info(host, port)).close()
    strict = EgressGuard(configured("10.0.0.0/8", allowed_ports="8443,9000-9001"))
    for port in (443, 8442, 8444, 8999, 9002):
        assert blocked(strict.tls_socket, host, port) == port_refusal(port, "8443,9000-9001")
    for port in (8443, 9000, 9001):
        strict.tls_socket(addr_info(host, port)).close()


def test_an_allowed_port_opens_no_address() -> None:
    assert (
        blocked(EgressGuard(configured(allowed_ports="1-65535")).tls_socket, "127.0.0.1", 6379)
        == f"the host's address {PRIVATE}"
    )


def test_a_zone_does_not_hide_an_address() -> None:
    assert blocked(EgressGuard(configured()).tls_socket, "fe80::1%lo") == f"the host's address {PRIVATE}"
    EgressGuard(configured("fe80::/10")).tls_socket(addr_info("fe80::1%lo")).close()


def test_a_blocked_address_is_an_error_of_the_operating_system_to_libraries() -> None:
    assert issubclass(EgressBlocked, OSError)


def url_refusal(url: object, settings: Settings) -> str | None:
    try:
        check_webhook_url(url, settings)
    except InvalidDefinition as refused:
        ((loc, message),) = [(error.loc, error.msg) for error in refused.errors]
        assert loc == ()
        return message
    return None


FORM = "must be an absolute URL such as https://example.com/hooks"
HOST = "must have the name of a host, or an address, such as https://example.com/hooks"
USUAL = "must write an address in its usual form, such as 192.0.2.1"
HTTPS = "must be https; plain http needs HOOKLINE_ALLOW_HTTP=1 or an address in HOOKLINE_ALLOWED_NETWORKS"
LOGIN = "must not hold a user name or password: they belong into basic, and a token into a secret"
SHAPE = f"{FORM}, at most 2048 characters, without spaces"
PORT = f"{FORM}, with a port from 1 to 65535 if any"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTPS://EXAMPLE.COM/Hooks",
        "https://example.com.:8443/hooks?team=ml&x=ü#part",
        "https://my_host.internal.example.com/",
        "https://xn--mnchen-3ya.de/",
        "https://münchen.de/größe",
        "https://8.8.8.8/hooks",
        "https://[2606:4700:4700::1111]:443/",
        "https://localhost/",  # a name: judged by what it resolves to
        "https://metadata.google.internal/",
        "https://1.2.3.4.example.com/",
        "https://0x7f.example.com/",
        f"https://{'a' * 63}.example.com/",
        "https://example.com/" + "x" * 2028,
    ],
)
def test_urls_that_are_accepted(url: str) -> None:
    assert url_refusal(url, configured()) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, SHAPE),
        (b"https://example.com", SHAPE),
        ("https://example.com/" + "x" * 2029, SHAPE),
        ("https://example.com/a b", SHAPE),
        ("https://example.com/\r\nX-Evil: 1", SHAPE),
        ("https://exa\tmple.com/", SHAPE),
        (" https://example.com/", SHAPE),
        ("https://example.com/\x7f", SHAPE),
        ("https://example.com/\0", SHAPE),
        ("", FORM),
        ("example.com/hooks", FORM),
        ("//example.com/hooks", FORM),
        ("https:example.com", FORM),
        ("https:///hooks", FORM),
        ("https://", FORM),
        ("https://:443/", FORM),
        ("ftp://example.com/", FORM),
        ("file:///etc/passwd", FORM),
        ("gopher://127.0.0.1:6379/", FORM),
        ("unix:///run/docker.sock", FORM),
        ("javascript:alert(1)", FORM),
        ("https://[::1", FORM),
        ("https://[v1.fe80]/", FORM),
        ("https://example.com:https/", FORM),
        ("https://xn--a.com/", FORM),
        ("https://\ud800.com/", FORM),
        ("https://example.com/\ud800", FORM),
        ("https://example.com:0/", PORT),
        ("https://example.com:65536/", PORT),
        ("https://user@example.com/", LOGIN),
        ("https://user:pass@example.com/", LOGIN),
        ("https://:pass@example.com/", LOGIN),
        ("https://example.com\\@127.0.0.1/", LOGIN),
        ("https://example.com%2f@127.0.0.1/", LOGIN),
        ("https://a..b/", HOST),
        ("https://.example.com/", HOST),
        ("https://exa%20mple.com/", HOST),
        ("https://%31%32%37.0.0.1/x", USUAL),
        ("https://%6cocalhost/", HOST),
        (f"https://{'a' * 64}.com/", HOST),
        (f"https://{'a.' * 130}com/", HOST),
        ("https://2130706433/", USUAL),
        ("https://017700000001/", USUAL),
        ("https://0x7f000001/", USUAL),
        ("https://0x7f.1/", USUAL),
        ("https://127.1/", USUAL),
        ("https://127.0.1/", USUAL),
        ("https://127.0.0.1./", USUAL),
        ("https://0/", USUAL),
        ("https://134744072/", USUAL),
        ("https://8.8.8.0x8/", USUAL),
        ("https://1.2.3.4.5/", USUAL),
        ("https://example.123/", USUAL),
        ("https://127.0.0.1/", f"127.0.0.1 {PRIVATE}"),
        ("https://169.254.169.254/latest/meta-data/", f"169.254.169.254 {PRIVATE}"),
        ("https://[::1]/", f"::1 {PRIVATE}"),
        ("https://[0:0:0:0:0:0:0:1]:8443/", f"::1 {PRIVATE}"),
        ("https://[::ffff:127.0.0.1]/", f"127.0.0.1 {PRIVATE}"),
        ("https://[::ffff:7f00:1]/", f"127.0.0.1 {PRIVATE}"),
        ("https://[64:ff9b::127.0.0.1]/", f"64:ff9b::7f00:1 {PRIVATE}"),
        ("https://[fe80::1%25eth0]/", f"fe80::1 {PRIVATE}"),
        ("https://[fd00:ec2::254]/", f"fd00:ec2::254 {PRIVATE}"),
        ("https://127。0。0。1/", f"127.0.0.1 {PRIVATE}"),
        ("http://example.com/", HTTPS),
        ("HTTP://example.com/", HTTPS),
        ("http://8.8.8.8/", HTTPS),
        ("http://127.0.0.1/", f"127.0.0.1 {PRIVATE}"),
    ],
)
def test_urls_that_are_refused(url: object, message: str) -> None:
    assert url_refusal(url, configured()) == message


@pytest.mark.parametrize(
    "host", ["\N{FULLWIDTH DIGIT ONE}27.0.0.1", "①②⑦.0.0.1", "ⓛocalhost", "127\N{ONE DOT LEADER}0.0.1", "‥"]
)
def test_characters_that_only_look_like_an_address_are_refused(host: str) -> None:
    assert url_refusal(f"https://{host}/", configured()) in (FORM, HOST, USUAL)


def test_octal_is_refused_in_one_form_or_the_other() -> None:
    for host in ("0177.0.0.1", "010.0.0.1", "127.0.0.01"):
        assert url_refusal(f"https://{host}/", configured()) in (FORM, USUAL)


@pytest.mark.parametrize(
    ("allowed", "allow_http", "url", "message"),
    [
        ("", True, "http://example.com/", None),
        ("", True, "http://8.8.8.8/", None),
        ("", True, "http://127.0.0.1/", f"127.0.0.1 {PRIVATE}"),
        ("127.0.0.0/8", False, "http://127.0.0.1:8080/", None),
        ("127.0.0.0/8", False, "http://[::ffff:127.0.0.1]:8080/", None),
        ("127.0.0.0/8", False, "https://127.0.0.1/", None),
        ("127.0.0.0/8", False, "http://10.0.0.1/", f"10.0.0.1 {PRIVATE}"),
        ("127.0.0.0/8", False, "http://8.8.8.8/", HTTPS),
        ("127.0.0.0/8", False, "http://127.1/", USUAL),
        # A name may resolve into the allowed network: the guard sees when it connects.
        ("127.0.0.0/8", False, "http://receiver.internal/", None),
        ("fe80::/10", False, "http://[fe80::1%25eth0]/", None),
        ("8.8.8.0/24", False, "http://8.8.8.8/", None),
    ],
)
def test_what_the_operator_allows(allowed: str, allow_http: bool, url: str, message: str | None) -> None:
    assert url_refusal(url, configured(allowed, allow_http=allow_http)) == message


@pytest.mark.parametrize(
    ("ports", "url", "port"),
    [
        ("80,443,1024-65535", "https://example.com:25/", 25),
        ("80,443,1024-65535", "https://8.8.8.8:22/", 22),
        ("80,443,1024-65535", "https://[2606:4700::1]:0022/", 22),
        ("80,443,1024-65535", "https://example.com:80/", None),
        ("80,443,1024-65535", "https://example.com:8443/", None),
        ("8443", "https://example.com:8443/", None),
        ("8443", "https://example.com/", 443),
        ("8443", "https://example.com:443/", 443),
        ("8443", "HTTP://10.0.0.1/", 80),
        ("80", "http://10.0.0.1:/", None),
        ("443", "http://10.0.0.1:443/", None),
    ],
)
def test_urls_may_use_the_allowed_ports_only(ports: str, url: str, port: int | None) -> None:
    message = None if port is None else port_refusal(port, ports)
    assert url_refusal(url, configured("10.0.0.0/8", allowed_ports=ports)) == message


@given(st.text(max_size=30), st.sampled_from(["", "http://", "https://", "https://[", "https://a@", "https://h:"]))
def test_any_text_is_accepted_or_refused(text: str, start: str) -> None:
    message = url_refusal(start + text, configured())
    assert message is None or message
    if message is None:
        assert start.startswith("http")
