"""The URLs of Redis, Valkey and RabbitMQ in the settings, translated into options of redis-py and of Celery.

Both get the same options from one URL, so that neither accepts a certificate which the other would refuse. Must not
open a connection, and must not repeat any part of a URL in an error: it may hold a password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from shared.config.certificate_rules import EXCLUDED, INCLUDED

_SERVER_FORM = (
    "must be redis://user:password@host:port/number, rediss://… (TLS), unix:///path?db=number or "
    "redis+sentinel://user:password@host:port,host:port/master/number; in a password all but letters and digits "
    "percent-encoded"
)
REDIS_FORM = f"{_SERVER_FORM}; or redis+cluster://user:password@host:port,host:port"
BROKER_FORM = f"{_SERVER_FORM}; or amqp://user:password@host:port/vhost or amqps://…, several with ; between"
NO_CLUSTER = (
    "must not be a Redis Cluster, on which Celery's queues do not work: name a Redis of its own, alone or under "
    "Sentinel, or RabbitMQ"
)

REDIS_PORT = 6379
SENTINEL_PORT = 26379
_REDIS = ("redis", "rediss")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_CLUSTER = ("redis+cluster", "rediss+cluster")
_RABBIT = ("amqp", "amqps")
_TESTS_ONLY = ("memory",)

_CERTIFICATES = ("required", "optional", "none")
_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_LOGIN = ("username", "password")
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")
_RABBIT_OPTIONS = ("heartbeat", "login_method")
_PLACE = re.compile(r"(?:\[[^]]*\](?::[0-9]*)?|[^][]*)").fullmatch
"""A host with its port, if any. An address in brackets has nothing beside it but a port."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis or Valkey: at a host and port, behind a socket, whichever server the Sentinels name as the master, or a
    Redis Cluster."""

    hosts: tuple[tuple[str, int], ...] = ()
    """The server, the Sentinels, or nodes of the cluster, which know the others."""
    cluster: bool = False
    path: str | None = None
    """The path of the server's Unix socket."""
    master: str | None = None
    """The name of the master among the Sentinels."""
    database: int = 0
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`username` and `password`, as far as there are."""
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Mapping[str, Any] | None = None
    """redis-py's options `ssl_…`; None without TLS."""

    @property
    def session(self) -> dict[str, Any]:
        """redis-py's options of each connection to the server."""
        number = {} if self.cluster else {"db": self.database}  # a cluster has no other than 0
        return {**self.login, **number, **self._encrypted}

    @property
    def sentinel_session(self) -> dict[str, Any]:
        """redis-py's options of each connection to a Sentinel."""
        return {**self.sentinel_login, **self._encrypted}

    @property
    def _encrypted(self) -> dict[str, Any]:
        return {} if self.tls is None else {"ssl": True, **self.tls}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The broker in Celery's terms."""

    url: str = field(repr=False)
    """As kombu takes it; may hold a password, but none of Sentinel's."""
    tls: Mapping[str, Any] | None = None
    """Celery's `broker_use_ssl`; None without TLS."""
    sentinel: RedisAddress | None = None
    """The Sentinels and their logins, for our transport; None for any other broker."""


def parse_redis(url: str) -> RedisAddress:
    """Parse the URL of a Redis or Valkey that holds the streams.

    Raises:
        ValueError: saying what is accepted.
    """
    parts = _split(url, REDIS_FORM)
    if parts.scheme in _REDIS:
        return _server(parts)
    if parts.scheme in _SENTINEL:
        return _behind_sentinels(parts)
    if parts.scheme in _CLUSTER:
        return _clustered(parts)
    if parts.scheme == "unix":
        return _behind_socket(parts, "db")
    raise ValueError(REDIS_FORM)


def parse_broker(urls: str) -> BrokerAddress:
    """Parse the URL of Celery's broker, or several URLs, separated by `;`, of which one broker is used at a time.

    Raises:
        ValueError: saying what is accepted.
    """
    brokers = [_broker(url) for url in urls.split(";")]
    first = brokers[0]
    if any(one.tls != first.tls or one.sentinel for one in brokers[1:]):
        raise ValueError(f"{BROKER_FORM}, of the same scheme and with the same options")
    return BrokerAddress(";".join(one.url for one in brokers), first.tls, first.sentinel)


def _broker(url: str) -> BrokerAddress:
    parts = _split(url, BROKER_FORM)
    if parts.scheme in _RABBIT:
        return _rabbit(url, parts)
    if parts.scheme in _TESTS_ONLY:
        return BrokerAddress(url)
    if parts.scheme == "redis+socket":
        return _of_redis(url, _behind_socket(parts, "virtual_host"))
    if parts.scheme in _CLUSTER:
        raise ValueError(NO_CLUSTER)
    if parts.scheme in (*_REDIS, *_SENTINEL, "unix"):
        return _of_redis(url, parse_redis(url))
    raise ValueError(BROKER_FORM)


def _of_redis(url: str, address: RedisAddress) -> BrokerAddress:
    """The broker in kombu's URLs, which differ for a server behind a socket and for Sentinels."""
    if address.master is not None:
        # Without the login, since `celery inspect stats` shows kombu's list of them to everybody.
        sentinels = ";".join(f"sentinel://{in_brackets(host)}:{port}" for host, port in address.hosts)
        return BrokerAddress(sentinels, address.tls, address)
    if address.path is not None:
        user, password = (quote(address.login.get(name, ""), safe="") for name in _LOGIN)
        login = f"{user}:{password}@" if address.login else ""
        number = f"?virtual_host={address.database}" if address.database else ""
        return BrokerAddress(f"redis+socket://{login}{quote(address.path)}{number}")
    return BrokerAddress(url.partition("?")[0], address.tls)


def _rabbit(url: str, parts: SplitResult) -> BrokerAddress:
    secure = parts.scheme == "amqps"
    options = _options(parts, (*_RABBIT_OPTIONS, *(_TLS if secure else ())), BROKER_FORM)
    _place(parts, 5672, BROKER_FORM)
    if not re.fullmatch(r"|[0-9]+", options.get("heartbeat", "")):
        raise ValueError("its option heartbeat must be a number of seconds")
    kept = "&".join(f"{name}={quote(options[name])}" for name in _RABBIT_OPTIONS if name in options)
    bare = url.partition("?")[0]
    return BrokerAddress(f"{bare}?{kept}" if kept else bare, _as_amqp(_tls(options)) if secure else None)


def _as_amqp(tls: Mapping[str, Any]) -> dict[str, Any]:
    """py-amqp's names. It checks the host's name only where there is one, and kombu fills in a blank one."""
    names = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
    reqs = ssl.VerifyMode[f"CERT_{tls['ssl_cert_reqs'].upper()}"]
    named = {"server_hostname": None} if tls["ssl_check_hostname"] else {}
    return {"cert_reqs": reqs, **named, **{names[name]: value for name, value in tls.items() if name in names}}


def _server(parts: SplitResult) -> RedisAddress:
    secure = parts.scheme == "rediss"
    options = _options(parts, _TLS if secure else (), REDIS_FORM)
    return RedisAddress(
        hosts=(_place(parts, REDIS_PORT, REDIS_FORM),),
        database=_number(parts.path.strip("/")),
        login=_login(parts),
        tls=_tls(options) if secure else None,
    )


def _behind_socket(parts: SplitResult, number: str) -> RedisAddress:
    options = _options(parts, (number, *_LOGIN), REDIS_FORM)
    if parts.hostname or parts.path in ("", "/"):
        raise ValueError(REDIS_FORM)
    return RedisAddress(
        path=unquote(parts.path),
        database=_number(options.get(number, "")),
        login=_login(parts) | {name: options[name] for name in _LOGIN if options.get(name)},
    )


def _behind_sentinels(parts: SplitResult) -> RedisAddress:
    secure = parts.scheme == "rediss+sentinel"
    options = _options(parts, (*_SENTINEL_LOGIN, *(_TLS if secure else ())), REDIS_FORM)
    hosts, login = _hosts_and_login(parts, SENTINEL_PORT, REDIS_FORM)
    master, _, number = parts.path.removeprefix("/").partition("/")
    if not master:
        raise ValueError(f"{REDIS_FORM}: the name of the master is missing")
    return RedisAddress(
        hosts=hosts,
        master=unquote(master),
        database=_number(number.rstrip("/")),
        login=login,
        sentinel_login={name.removeprefix("sentinel_"): options[name] for name in _SENTINEL_LOGIN if options.get(name)},
        tls=_tls(options) if secure else None,
    )


def _clustered(parts: SplitResult) -> RedisAddress:
    secure = parts.scheme == "rediss+cluster"
    options = _options(parts, _TLS if secure else (), REDIS_FORM)
    hosts, login = _hosts_and_login(parts, REDIS_PORT, REDIS_FORM)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError(f"{REDIS_FORM}: a Redis Cluster has no databases with other numbers than 0")
    return RedisAddress(hosts=hosts, cluster=True, login=login, tls=_tls(options) if secure else None)


def _hosts_and_login(parts: SplitResult, port: int, form: str) -> tuple[tuple[tuple[str, int], ...], dict[str, str]]:
    """The hosts and the login of a URL that may name several hosts, with the port of those without one."""
    login, _, hosts = parts.netloc.rpartition("@")
    if not hosts:
        raise ValueError(f"{form}: a host is missing")
    each = [_split(f"several://{host}", form) for host in hosts.split(",")]
    return (
        tuple(_place(one, port, form) for one in each),
        _login(_split(f"redis://{login}@host", form)) if login else {},
    )


def split_url(url: str) -> SplitResult:
    """The parts of a URL that may name several hosts, some as addresses in brackets, the same on each Python.

    Newer `urlsplit` refuse several hosts with brackets among them; older ones overlook what stands beside a bracket.

    Raises:
        ValueError: when it is no URL.
    """
    several = re.fullmatch(r"([^:/?#]*://)((?:[^/?#]*@)?[^/?#@]*,[^/?#@]*)((?:[/?#].*)?)", url, re.DOTALL)
    parts = urlsplit(url) if several is None else urlsplit(several[1] + several[3])._replace(netloc=several[2])
    if not all(map(_PLACE, parts.netloc.rpartition("@")[2].split(","))):
        raise ValueError("a host in brackets has something beside it")
    return parts


def _split(url: str, form: str) -> SplitResult:
    """`urlsplit` lowers a scheme and drops blanks, which other readers of URLs do not."""
    try:
        parts = split_url(url)
    except ValueError:
        raise ValueError(form) from None
    if not url.startswith(f"{parts.scheme}://") or parts.fragment or re.search(r"\s", url):
        raise ValueError(form)
    return parts


def _place(parts: SplitResult, port: int, form: str) -> tuple[str, int]:
    try:
        return unquote(parts.hostname or "127.0.0.1"), parts.port or port
    except ValueError:
        raise ValueError(form) from None


def _login(parts: SplitResult) -> dict[str, str]:
    return {
        name: unquote(value)
        for name, value in (("username", parts.username), ("password", parts.password))
        if value  # blank is none, as redis-py takes it
    }


def _number(text: str) -> int:
    if not re.fullmatch(r"|[0-9]{1,9}", text):
        raise ValueError(REDIS_FORM)
    return int(text or 0)


def _options(parts: SplitResult, known: tuple[str, ...], form: str) -> dict[str, str]:
    found = parse_qsl(parts.query, keep_blank_values=True)
    if not {name for name, _ in found} <= {*known}:
        taken = f"the options that {parts.scheme}:// takes are {', '.join(known)}"
        taken = taken if known else f"{parts.scheme}:// takes no options"
        raise ValueError(f"{form}; {taken}")
    return dict(found)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    """Certificates are checked, and the names in them, unless a URL says otherwise."""
    reqs = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")  # kombu's spelling, or redis-py's
    checked = options.get("ssl_check_hostname", "true").lower()
    if reqs not in _CERTIFICATES:
        raise ValueError(f"its option ssl_cert_reqs must be one of {', '.join(_CERTIFICATES)}")
    if checked not in ("true", "false"):
        raise ValueError("its option ssl_check_hostname must be true or false")
    files = {name: options[name] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") if name in options}
    for name, path in files.items():
        if not Path(path).is_file():
            raise ValueError(f"its option {name} must be a file in PEM: there is no file {path}")
    return {
        "ssl_cert_reqs": reqs,
        "ssl_check_hostname": checked == "true" and reqs != "none",
        "ssl_include_verify_flags": [INCLUDED],
        "ssl_exclude_verify_flags": [EXCLUDED],
        **files,
    }


def in_brackets(host: str) -> str:
    """A host as a URL has it: IPv6 addresses stand in brackets."""
    return f"[{host}]" if ":" in host else host
