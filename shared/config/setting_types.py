"""The types of settings: each reads text and refuses what it can't use, naming what is accepted."""

from __future__ import annotations

import re
import ssl
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, NamedTuple

from cryptography.fernet import Fernet, MultiFernet
from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from shared.config.server_urls import parse_broker, parse_redis, split_url
from shared.domain.durations import DURATION_FORM, parse_duration
from shared.domain.errors import HooklineError, InvalidDefinition
from shared.domain.events.values import MAX_HEARTBEAT_SECONDS, MIN_HEARTBEAT_SECONDS

MIN_KEY_CHARS = 20
MIN_KEY_DIFFERENT = 8
"""The least length of a key that somebody chose, and its least number of different characters. A generated key has 43
random characters."""

Network = IPv4Network | IPv6Network


class InvalidSetting(HooklineError):
    """An environment variable has a value that Hookline can't start with."""


class PortRange(NamedTuple):
    """Ports from the first to the last, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


def _duration(value: object) -> timedelta:
    try:
        return parse_duration(value)
    except InvalidDefinition as exc:
        raise ValueError(str(exc)) from exc


def _positive_duration(value: object) -> timedelta:
    """A duration above 0: with 0 a loop would spin, or a drain would end before it began."""
    if (duration := _duration(value)) == timedelta():
        raise ValueError(f"must be {DURATION_FORM}, and longer than 0")
    return duration


def _heartbeat_duration(value: object) -> timedelta:
    """A duration that events may have as the heartbeat of a run."""
    duration = _duration(value)
    if not MIN_HEARTBEAT_SECONDS <= duration.total_seconds() <= MAX_HEARTBEAT_SECONDS:
        raise ValueError(f"must be {DURATION_FORM}, from 1s to {MAX_HEARTBEAT_SECONDS // 86_400}d")
    return duration


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
    except ValueError as exc:
        raise ValueError(f"must be networks such as 10.0.0.0/8,::1/128: {exc}") from exc


OWN_PATHS = frozenset({"console", "docs", "graphql", "healthz", "metrics", "openapi.json", "readyz", "redoc", "v1"})
"""How the API's own paths begin. A prefix that began so could not be told from them."""


def _root_path(value: object) -> str:
    path = str(value).rstrip("/")
    segments = path.split("/")[1:]
    if path and (
        not re.fullmatch(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path) or len(path) > 200 or segments[0] in OWN_PATHS
    ):
        raise ValueError(
            f"must be a path such as /hookline, of letters, digits and -._~, that begins with none of the API's own: "
            f"{', '.join(sorted(OWN_PATHS))}"
        )
    return path


def _origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = tuple(part.strip() for part in value.split(",") if part.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?", origin):
            raise ValueError(
                f"must be origins as browsers write them, such as https://dash.example.com,http://localhost:3000; "
                f"{origin!r} is none"
            )
    return origins


def _port_ranges(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = [re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip()) for part in value.split(",") if part.strip()]
    ranges = [PortRange(int(match[1]), int(match[2] or match[1])) for match in found if match]
    if not ranges or not all(found) or not all(1 <= one.first <= one.last <= 65535 for one in ranges):
        raise ValueError("must be ports from 1 to 65535 and ranges of them, such as 80,443,8000-8999")
    return tuple(ranges)


def _ca_bundle(value: object) -> object:
    """Read the file here, so that an unusable one is refused at start and not at the first delivery."""
    path = Path(str(value))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=path.read_text(encoding="ascii"))
    except OSError as exc:  # of which SSLError is one
        reason = "holds no certificate that can be read" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise ValueError(f"must be a file of certificates in PEM: {path}: {reason}") from exc
    except ValueError as exc:
        raise ValueError(f"must be a file of certificates in PEM: {path}: is not ASCII text") from exc
    return path


def _secret_keys(value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    try:
        MultiFernet([Fernet(key) for key in split_keys(str(value))])
    except ValueError as exc:
        raise ValueError("must be Fernet keys (32 bytes in url-safe base64), comma-separated, newest first") from exc
    return value


def _admin_key(value: object) -> object:
    """Refuse a key that can be guessed, as one can that somebody chose, unlike a key that Hookline makes."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if len(text) < MIN_KEY_CHARS or len(set(text)) < MIN_KEY_DIFFERENT or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(
            f"must be at least {MIN_KEY_CHARS} characters, {MIN_KEY_DIFFERENT} different ones, without blanks, such as "
            "hlk-$(openssl rand -hex 32)"
        )
    return value


def split_keys(text: str) -> list[str]:
    """The keys of a comma- or line-separated list, newest first."""
    return [key for part in text.split(",") for key in part.split()]


# A refused URL may hold a password, so no message repeats it.
def _database_url(value: object) -> str:
    url = re.sub("^postgres(ql)?://", "postgresql+psycopg://", str(value))
    if not url.startswith(("postgresql+psycopg://", "sqlite:///")):
        raise ValueError("must be postgresql://user:password@host/name or sqlite:///path")
    return url


def _redis_url(value: object) -> str:
    parse_redis(str(value))
    return str(value)


def _broker_url(value: object) -> str:
    parse_broker(str(value))
    return str(value)


def _http_url(value: object) -> str:
    if not str(value).startswith(("http://", "https://")) or not _host(value):
        raise ValueError("must be a URL such as http://127.0.0.1:8080")
    return str(value)


_SCOPES = re.compile(r"openid( [\x21\x23-\x5B\x5D-\x7E]+)*", re.ASCII)
"""RFC 6749, section 3.3; OpenID Connect asks for the first."""


def _scopes(value: object) -> str:
    if not isinstance(value, str) or not _SCOPES.fullmatch(value):
        raise ValueError("must be openid, and others after it, separated by single spaces")
    return value


def _host(url: object) -> str | None:
    """The host in a URL, which may be blank; None when host and port can't be read."""
    try:
        parts = split_url(str(url))
        return "" if parts.port is None and not parts.hostname else parts.hostname
    except ValueError:
        return None


DatabaseUrl = Annotated[str, BeforeValidator(_database_url)]


RedisUrl = Annotated[str, BeforeValidator(_redis_url)]


BrokerUrl = Annotated[str, BeforeValidator(_broker_url)]


HttpUrl = Annotated[str, BeforeValidator(_http_url)]


Scopes = Annotated[str, BeforeValidator(_scopes)]


AdminKey = Annotated[SecretStr, BeforeValidator(_admin_key)]


SecretKeys = Annotated[SecretStr, BeforeValidator(_secret_keys)]


Duration = Annotated[timedelta, BeforeValidator(_duration)]


PositiveDuration = Annotated[timedelta, BeforeValidator(_positive_duration)]


HeartbeatDuration = Annotated[timedelta, BeforeValidator(_heartbeat_duration)]


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]


RootPath = Annotated[str, BeforeValidator(_root_path)]


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]


Ports = Annotated[tuple[PortRange, ...], NoDecode, BeforeValidator(_port_ranges)]


CaBundle = Annotated[Path, BeforeValidator(_ca_bundle)]
