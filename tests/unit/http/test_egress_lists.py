"""The guard against the lists that others published of where no webhook may go, and every cloud's metadata address.

The tables hold address facts only, each under the address of its source.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.setting_types import Network
from shared.http.egress import Address, refusal_reason

# https://github.com/svix/svix-webhooks/blob/4fc0cfb8b426c87ef7e2b937e7d896a71d456a47/
# server/svix-server/src/core/webhook_http_client.rs, `is_allowed`, with what Rust's std calls by name written out.
SVIX_V4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
)
SVIX_V6 = (
    *("::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
    *("fc00::/7", "fe80::/10", "ff00::/8"),
)
# https://github.com/stripe/smokescreen/blob/a3294a6cc4e4e33cd086ec0d5bca9f22db097023/pkg/smokescreen/smokescreen.go,
# `classifyAddr`, with what Go's net calls by name written out.
SMOKESCREEN_V4 = (
    *("0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.168.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
)
SMOKESCREEN_V6 = ("::/128", "::1/128", "2001::/32", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8")
LISTS = {"svix": SVIX_V4 + SVIX_V6, "smokescreen": SMOKESCREEN_V4 + SMOKESCREEN_V6}
ALLOWED_BY_THEM = {
    "svix": ("1.1.1.1", "8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"),
    "smokescreen": ("8.8.8.8", "100.63.255.254", "100.128.0.1", "2001:4860:4860::8888", "2606:4700:4700::1111"),
}
NAT64 = "64:ff9b::/96"

# Where instances ask their host for credentials, user data, names or time.
METADATA = {
    "AWS, Azure, GCP, DigitalOcean, Hetzner, IBM, OpenStack, Oracle, Vultr": "169.254.169.254",
    "AWS ECS tasks": "169.254.170.2",
    "AWS EKS Pod Identity": "169.254.170.23",
    "AWS time and DNS": "169.254.169.123",
    "GKE": "169.254.169.252",
    "Tencent": "169.254.0.23",
    "Scaleway": "169.254.42.42",
    "Azure WireServer, DNS and health probes": "168.63.129.16",
    "Alibaba": "100.100.100.200",
    "Alibaba DNS": "100.100.2.136",
    "Oracle, classic": "192.0.0.192",
    "AWS, IPv6": "fd00:ec2::254",
    "AWS EKS Pod Identity, IPv6": "fd00:ec2::23",
    "AWS DNS, IPv6": "fd00:ec2::253",
    "GCP, IPv6": "fd20:ce::254",
    "Oracle, IPv6": "fd00:c1::a9fe:a9fe",
    "Scaleway, IPv6": "fd00:42::42",
    "Linode, IPv6": "fd00:a9fe:a9fe::1",
    "OpenStack, IPv6": "fe80::a9fe:a9fe",
}


def clothed(address: IPv4Address) -> Iterator[IPv6Address]:
    """The IPv6 addresses that carry an IPv4 address in one of the standard ways."""
    value = int(address)
    yield IPv6Address((0xFFFF << 32) | value)  # mapped, RFC 4291
    yield IPv6Address(value)  # compatible, RFC 4291
    yield IPv6Address((0xFFFF << 48) | value)  # translated, RFC 2765
    yield IPv6Address(int(IPv6Address("64:ff9b::")) | value)  # NAT64, RFC 6052
    yield IPv6Address(int(IPv6Address("64:ff9b:1::")) | value)  # local NAT64, RFC 8215
    yield IPv6Address((0x2002 << 112) | (value << 80) | 1)  # 6to4, RFC 3056
    yield IPv6Address((0x2001 << 112) | (value << 64))  # Teredo, RFC 4380: the server
    yield IPv6Address((0x2001 << 112) | (value ^ 0xFFFFFFFF))  # Teredo: the client, with each bit turned


def test_clothes_are_what_ipaddress_reads() -> None:
    mapped, _compatible, _translated, _nat64, _local, sixtofour, server, client = clothed(IPv4Address("192.0.2.1"))
    assert str(mapped.ipv4_mapped) == str(sixtofour.sixtofour) == "192.0.2.1"
    assert server.teredo and str(server.teredo[0]) == "192.0.2.1"
    assert client.teredo and str(client.teredo[1]) == "192.0.2.1"


def every_form(address: Address) -> Iterator[Address]:
    yield address
    if isinstance(address, IPv4Address):
        yield from clothed(address)


def edges(network: Network) -> tuple[Address, ...]:
    return network[0], network[network.num_addresses // 2], network[-1]


@pytest.mark.parametrize(("source", "network"), [(source, one) for source, nets in LISTS.items() for one in nets])
def test_what_a_published_list_refuses_is_refused_in_every_form(source: str, network: str) -> None:
    for address in edges(ip_network(network)):
        for form in every_form(address):
            assert refusal_reason(form, ()) is not None, f"{source}: {form}"


@given(st.sampled_from([ip_network(one) for nets in LISTS.values() for one in nets]), st.data())
def test_any_address_of_a_published_list_is_refused(network: Network, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, network.num_addresses - 1))
    for form in every_form(network[offset]):
        assert refusal_reason(form, ()) is not None, str(form)


@pytest.mark.parametrize(
    ("source", "text"), [(source, one) for source, all_of in ALLOWED_BY_THEM.items() for one in all_of]
)
def test_what_a_published_list_lets_through_is_let_through(source: str, text: str) -> None:
    assert refusal_reason(ip_address(text), ()) is None, source


def test_nat64_is_judged_by_what_it_carries() -> None:
    """Both lists refuse the whole prefix; where hosts have IPv6 alone it is the way to every IPv4 endpoint."""
    assert refusal_reason(ip_address("64:ff9b::808:808"), ()) is None
    for network in (*SVIX_V4, *SMOKESCREEN_V4):
        for address in edges(ip_network(network)):
            assert refusal_reason(ip_network(NAT64)[int(address)], ()) is not None, str(address)


@pytest.mark.parametrize(("provider", "text"), METADATA.items())
def test_no_cloud_s_metadata_address_is_open_in_any_form(provider: str, text: str) -> None:
    for form in every_form(ip_address(text)):
        assert refusal_reason(form, ()) is not None, f"{provider}: {form}"
    neighbours = "168.63.129.15", "168.63.129.17"
    assert all(refusal_reason(ip_address(one), ()) is None for one in neighbours)


@pytest.mark.parametrize("allowed", ["168.63.129.16/32", "0.0.0.0/0"])
def test_an_operator_may_allow_a_metadata_address(allowed: str) -> None:
    for text in ("168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16"):
        assert refusal_reason(ip_address(text), (ip_network(allowed),)) is None
