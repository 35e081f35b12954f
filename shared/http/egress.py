"""The rules of where requests may go: never to a private, loopback, link-local or metadata address, unless allowed.

Ports are limited as well. `check_webhook_url` refuses a URL when a webhook is saved, so that people learn of it
immediately. That is no protection, since a name may resolve to another address later: `EgressGuard` checks the address
that a socket is about to connect to.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpx

from shared.config.setting_types import Network, PortRange
from shared.domain.errors import InvalidDefinition
from shared.http.exceptions import EgressBlocked
from shared.http.request import DEFAULT_PORTS
from shared.observability.logs import get_logger
from shared.settings import Settings

Address = IPv4Address | IPv6Address

log = get_logger("hookline.egress")

MAX_URL_LENGTH = 2048
MAX_HOST_LENGTH = 253
"""Of a name without its last dot (RFC 1035, section 2.3.4)."""
# IANA's registries say which addresses are not public (https://www.iana.org/assignments/iana-ipv4-special-registry and
# …/iana-ipv6-special-registry). `ipaddress` knows them, but each release of Python another edition: the blocks that
# matter are written out.
_REFUSED_V4 = (
    IPv4Network("100.64.0.0/10"),  # carrier-grade NAT, RFC 6598; Alibaba keeps its metadata service in it
    IPv4Network("168.63.129.16/32"),  # Azure's WireServer and DNS: public in form, each virtual machine's own host
    IPv4Network("192.0.0.0/24"),  # protocol assignments; Oracle's older metadata service is in it
    IPv4Network("192.88.99.0/24"),
    IPv4Network("224.0.0.0/3"),  # multicast, reserved and broadcast
)
# Everything that is assigned to public hosts is in it; loopback, unique local, link-local and multicast are outside.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),  # 6to4, which carries any IPv4 address; retired by RFC 7526
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
_NOT_PUBLIC = "is not a public address, and HOOKLINE_ALLOWED_NETWORKS does not allow it"
_NAT64 = IPv6Network("64:ff9b::/96")
"""The well-known prefix of RFC 6052: the last 32 bits are an IPv4 address, which is checked as well."""
_HOST_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", re.IGNORECASE)
# The last label of what `inet_aton` reads as an address: decimal, octal or hexadecimal, of one to four parts.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE)


def refusal_reason(address: Address, allowed: tuple[Network, ...]) -> str | None:
    """Why no request may go to this address; None when it may.

    An IPv4-mapped IPv6 address (`::ffff:127.0.0.1`) is judged as its IPv4 address. A NAT64 address (RFC 6052) must pass
    both as itself and as the IPv4 address that a gateway translates it to.
    """
    address = _unmap(address)
    for candidate in (address, *_behind_nat64(address)):
        if not _in(candidate, allowed) and not _is_public(candidate):
            return f"{address} {_NOT_PUBLIC}"
    return None


def _unmap(address: Address) -> Address:
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _behind_nat64(address: Address) -> tuple[IPv4Address, ...]:
    if isinstance(address, IPv6Address) and address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _REFUSED_V4)
    if address in _NAT64:
        return True
    return address in _GLOBAL_V6 and address.is_global and not any(address in network for network in _REFUSED_V6)


def _port_refusal(port: int, ports: tuple[PortRange, ...]) -> str | None:
    if any(allowed.first <= port <= allowed.last for allowed in ports):
        return None
    return f"port {port} is none that webhooks may use: HOOKLINE_ALLOWED_PORTS is {','.join(map(str, ports))}"


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _address(text: object) -> Address | None:
    """The address that a text spells in the usual way, its IPv6 zone left out; None for anything else."""
    try:
        return ip_address(str(text).partition("%")[0])
    except ValueError:
        return None


def check_webhook_url(url: object, settings: Settings) -> None:
    """Refuse a URL that no request could be sent to. No name is resolved.

    Raises:
        InvalidDefinition: saying what is accepted.
    """
    reason = _url_refusal(url, settings)
    if reason is not None:
        raise InvalidDefinition.at((), reason)


def _url_refusal(url: object, settings: Settings) -> str | None:
    form = "must be an absolute URL such as https://example.com/hooks"
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        return f"{form}, at most {MAX_URL_LENGTH} characters, without spaces"
    try:
        parts = httpx.URL(url)  # `shared.http.request.target` reads it by the same parser
        host = parts.raw_host.decode("ascii") if parts.host else ""
    except (httpx.InvalidURL, ValueError):
        return form
    if parts.scheme not in ("http", "https") or not host:
        return form
    if parts.userinfo:
        return "must not hold a user name or password: they belong into basic, and a token into a secret"
    if parts.port is not None and not 1 <= parts.port <= 65535:
        return f"{form}, with a port from 1 to 65535 if any"
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return _host_refusal(parts.scheme, host, settings) or _port_refusal(port, settings.allowed_ports)


def _host_refusal(scheme: str, host: str, settings: Settings) -> str | None:
    address = _address(host)
    if address is None and _NUMERIC.fullmatch(host):
        return "must write an address in its usual form, such as 192.0.2.1"
    if address is None and (len(host) > MAX_HOST_LENGTH or not _HOST_NAME.fullmatch(host)):
        return "must have the name of a host, or an address, such as https://example.com/hooks"
    if address is not None and (reason := refusal_reason(address, settings.allowed_networks)):
        return reason
    if scheme == "https" or settings.allow_http:
        return None
    if address is None and settings.allowed_networks:
        return None  # the name may resolve into an allowed network, which the guard checks at each connection
    if address is not None and _in(_unmap(address), settings.allowed_networks):
        return None
    return "must be https; plain http needs HOOKLINE_ALLOW_HTTP=1 or an address in HOOKLINE_ALLOWED_NETWORKS"


class EgressGuard:
    """Checks each address at the moment a socket is made for it, whatever the name resolved to before.

    A refusal does not name the address: whoever sees deliveries would learn the addresses of names in the network
    behind Hookline. The operator's log has it.
    """

    def __init__(self, settings: Settings) -> None:
        self._allowed = settings.allowed_networks
        self._allow_http = settings.allow_http
        self._ports = settings.allowed_ports

    def tls_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket for an https request to the resolved address. Raises EgressBlocked."""
        return self._socket(addr_info, self._refusal(addr_info))

    def plain_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket for a request without TLS, by default to allowed networks only. Raises EgressBlocked."""
        return self._socket(addr_info, self._refusal(addr_info) or self._plain_refusal(addr_info))

    def judge(self, addresses: Sequence[tuple[Any, ...]], tls: bool) -> None:
        """Refuse a host by all of its addresses, where a proxy will connect to one of them. Raises EgressBlocked."""
        for one in addresses:
            self._raise(one, self._refusal(one) or (None if tls else self._plain_refusal(one)))

    def judge_unresolved(self, port: int, tls: bool) -> None:
        """Refuse a host whose name only the proxy can resolve, by what is known of it. Raises EgressBlocked."""
        reason = _port_refusal(port, self._ports)
        if reason is None and not tls and not self._allow_http:
            reason = "plain http to a host whose name does not resolve here needs HOOKLINE_ALLOW_HTTP=1"
        self._raise((socket.AF_UNSPEC, 0, 0, "", ("(unresolved)", port)), reason)

    def _refusal(self, addr_info: tuple[Any, ...]) -> str | None:
        host, port, *_ = addr_info[4]
        address = _address(host)
        # The resolver gives addresses in their usual form. Any other spelling means another thing to each library.
        if address is None:
            return "the host is not an address in its usual form"
        if refusal_reason(address, self._allowed) is not None:
            return f"the host's address {_NOT_PUBLIC}"
        return _port_refusal(port, self._ports)

    def _plain_refusal(self, addr_info: tuple[Any, ...]) -> str | None:
        address = _address(addr_info[4][0])
        address = None if address is None else _unmap(address)
        if self._allow_http or address is None or _in(address, self._allowed):
            return None
        return "plain http to this host needs HOOKLINE_ALLOW_HTTP=1 or its address in HOOKLINE_ALLOWED_NETWORKS"

    def _socket(self, addr_info: tuple[Any, ...], reason: str | None) -> socket.socket:
        self._raise(addr_info, reason)
        family, kind, protocol, _name, _sockaddr = addr_info
        return socket.socket(family, kind, protocol)

    @staticmethod
    def _raise(addr_info: tuple[Any, ...], reason: str | None) -> None:
        if reason is not None:
            log.info("egress.blocked", address=addr_info[4][0], port=addr_info[4][1], reason=reason)
            raise EgressBlocked(reason)
