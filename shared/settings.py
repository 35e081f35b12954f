"""Every `HOOKLINE_*` setting, typed, in one place. docs/settings.md is generated from here.

A wrong value is refused at start with one line that names the variable. Nothing else reads the environment.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import tempfile
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from cryptography.fernet import Fernet, MultiFernet
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.config.server_urls import Broker, parse_broker, parse_redis
from shared.domain.durations import DURATION_FORM, parse_duration
from shared.domain.errors import HooklineError, InvalidDefinition

Network = IPv4Network | IPv6Network

ENV_PREFIX = "HOOKLINE_"
MAX_SOCKET_PATH_BYTES = 100


class InvalidSetting(HooklineError):
    """An environment variable has a value that Hookline can't start with."""


class PortSpan(NamedTuple):
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


def _span(value: object) -> timedelta:
    """A duration of no length would let a loop spin, or a drain end before it began."""
    if (span := _duration(value)) == timedelta():
        raise ValueError(f"must be {DURATION_FORM}, and longer than 0")
    return span


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
    except ValueError as exc:
        raise ValueError(f"must be networks such as 10.0.0.0/8,::1/128: {exc}") from exc


def _port_spans(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = [re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip()) for part in value.split(",") if part.strip()]
    spans = [PortSpan(int(match[1]), int(match[2] or match[1])) for match in found if match]
    if not spans or not all(found) or not all(1 <= span.first <= span.last <= 65535 for span in spans):
        raise ValueError("must be ports from 1 to 65535 and spans of them, such as 80,443,8000-8999")
    return tuple(spans)


def _ca_bundle(value: object) -> object:
    """Read here, so that a file that can't be used is told at start and not by the first delivery."""
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


def split_keys(text: str) -> list[str]:
    """The keys of a comma- or line-separated list, newest first."""
    return [key for part in text.split(",") for key in part.split()]


# What is refused may hold a password, so no message repeats it.
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


def _host(url: object) -> str | None:
    """The host in a URL, which may be blank; None when host and port can't be read."""
    try:
        parts = urlsplit(str(url))
        return "" if parts.port is None and not parts.hostname else parts.hostname
    except ValueError:
        return None


DatabaseUrl = Annotated[str, BeforeValidator(_database_url)]
RedisUrl = Annotated[str, BeforeValidator(_redis_url)]
BrokerUrl = Annotated[str, BeforeValidator(_broker_url)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]
SecretKeys = Annotated[SecretStr, BeforeValidator(_secret_keys)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Span = Annotated[timedelta, BeforeValidator(_span)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
Ports = Annotated[tuple[PortSpan, ...], NoDecode, BeforeValidator(_port_spans)]
CaBundle = Annotated[Path, BeforeValidator(_ca_bundle)]


class Settings(BaseSettings):
    """What an operator can set; blank means unset. Unset URLs mean the embedded default under the data directory.

    URLs may hold passwords, so they are kept out of `repr`.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(
        Path(".hookline"), description="Where the embedded default keeps Valkey's and SQLite's files."
    )
    redis_url: RedisUrl | None = Field(
        None,
        repr=False,
        description="Redis or Valkey that holds the event streams: `redis://`, `rediss://`, `unix://` or "
        "`redis+sentinel://` ([brokers.md](brokers.md)); unset: the embedded Valkey.",
    )
    broker_url: BrokerUrl | None = Field(
        None,
        repr=False,
        description="Celery's broker: Redis or Valkey, by the same URLs, or RabbitMQ, `amqp://` or `amqps://`; "
        "unset: the same server as the streams (embedded: its database 1).",
    )
    database_url: DatabaseUrl | None = Field(
        None,
        repr=False,
        description="SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`; unset: SQLite in the data directory.",
    )
    secret_keys: SecretKeys | None = Field(
        None,
        description="Fernet keys for secrets at rest, comma-separated, newest first; "
        "unset: generated and kept in the data directory with mode 0600.",
    )
    admin_api_key: SecretStr | None = Field(
        None, description="The first admin's API key, instead of one that `hookline init` generates and prints."
    )
    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: int = Field(8080, ge=0, le=65535, description="Port on which the API listens.")
    url: HttpUrl = Field("http://127.0.0.1:8080", description="Where the `hookline` commands find the API.")
    api_key: SecretStr | None = Field(None, description="The API key that the `hookline` commands use.")
    partitions: int = Field(
        16,
        ge=1,
        le=1024,
        description="Number of event streams; publishers must use the same. Change it only while all are evaluated.",
    )
    max_stream_bytes: int | None = Field(
        None,
        ge=0,
        description="Memory of the server with the streams above which publishing is answered with 503; 0: no bound; "
        "unset: three quarters of its `maxmemory` or, where it has none, half of its machine's memory.",
    )
    event_retention: Duration = Field(
        timedelta(hours=24),
        description="How long evaluated events stay in the streams; less while their memory is nearly full.",
    )
    delivery_retention: Duration = Field(
        timedelta(days=30),
        description="How long delivered and skipped deliveries are kept, at least `event_retention`; 0: for ever.",
    )
    dead_letter_retention: Duration = Field(
        timedelta(days=90),
        description="How long dead letters, and stream entries that were no events, are kept; 0: for ever.",
    )
    window_retention: Duration = Field(
        timedelta(days=30),
        description="How long the metric windows and firing times of a run or collection outlive its last event; "
        "0: for ever. What a cooldown needs is kept as long as it lasts.",
    )
    audit_retention: Duration = Field(
        timedelta(0), description="How long records of the audit log are kept; 0: for ever."
    )
    allowed_networks: Networks = Field(
        (),
        description="Private networks that webhooks may reach all the same, comma-separated: `10.0.0.0/8,::1/128`.",
    )
    allow_http: bool = Field(False, description="Whether webhooks may use plain http outside the allowed networks.")
    allowed_ports: Ports = Field(
        (PortSpan(80, 80), PortSpan(443, 443), PortSpan(1024, 65535)),
        description="The ports of endpoints that webhooks may use, in allowed networks too, comma-separated.",
    )
    ca_bundle: CaBundle | None = Field(
        None,
        description="A PEM file of certificate authorities that endpoints' certificates may come from, besides the "
        "system's.",
    )
    disable_after: Duration = Field(
        timedelta(days=5), description="A webhook is disabled after this long of nothing but failures."
    )
    evaluate_batch: int = Field(500, ge=1, le=5000, description="Stream entries evaluated in one transaction.")
    claim_batch: int = Field(256, ge=1, le=2000, description="Deliveries claimed at once for one webhook.")
    max_in_flight: int = Field(
        256, ge=1, le=2000, description="Requests in flight to one webhook from one worker process."
    )
    max_connections: int = Field(
        1000,
        ge=2,
        le=50_000,
        description="Requests in flight from one worker process; slow webhooks together get half of them.",
    )
    shutdown_grace: Duration = Field(
        timedelta(seconds=20),
        description="How long a worker that ends waits for requests in flight; what is left is sent again later.",
    )
    drains_per_webhook: int = Field(2, ge=1, le=64, description="Workers that drain the same webhook at the same time.")
    drain_slice: Span = Field(
        timedelta(seconds=2), description="How long a drain works before it makes room for others."
    )
    worker_threads: int = Field(32, ge=1, le=500, description="Drains that one worker process works at the same time.")
    database_connections: int = Field(
        40,
        ge=1,
        le=1000,
        description="Connections to the database that one process opens at most. Threads beyond take turns, since each "
        "needs one for milliseconds; PostgreSQL's `max_connections` must cover all processes.",
    )
    lease_margin: Duration = Field(
        timedelta(seconds=30),
        description="How long past a webhook's time-out a claimed delivery stays with its worker.",
    )
    sweep_interval: Span = Field(
        timedelta(seconds=1),
        description="How often the pump looks for due retries, expired claims and lagging partitions.",
    )
    reload_interval: Duration = Field(
        timedelta(milliseconds=500), description="How often a worker looks for edited automations."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for `/metrics` of a worker or the pump on 127.0.0.1 or `metrics_host`; 0: none.",
    )
    metrics_host: str = Field("0.0.0.0", description="Address for `/metrics` of a worker or the pump.")  # noqa: S104
    heartbeat_file: Path | None = Field(
        None,
        description="A file that a worker or the pump touches every few seconds while it lives, for liveness probes; "
        "unset: none.",
    )
    otel: bool = Field(
        False,
        description="Whether to trace with OpenTelemetry, from publishing to each attempt; spans go where the usual "
        "`OTEL_EXPORTER_OTLP_*` variables say. Needs the extra `otel`.",
    )
    metrics_per_webhook: bool = Field(False, description="Whether delivery metrics carry a `webhook` label.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`json` for machines, `console` for people; `auto`: console on a terminal, else json."
    )

    @property
    def valkey_socket(self) -> Path:
        """The embedded Valkey's Unix socket; in the temporary directory when the data directory's path is too long."""
        path = self.data_dir.resolve() / "valkey.sock"
        if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"hookline-{digest}.sock"

    @property
    def stream_url(self) -> str:
        """URL of the server with the event streams."""
        return self.redis_url or f"unix://{quote(str(self.valkey_socket))}?db=0"

    @property
    def broker(self) -> Broker:
        """Celery's broker: the one that is set, else the server with the streams (embedded: its database 1)."""
        return parse_broker(self.broker_url or self.redis_url or f"unix://{quote(str(self.valkey_socket))}?db=1")

    @property
    def celery_broker_url(self) -> str:
        """URL of Celery's broker, as Celery takes it."""
        return self.broker.url

    @property
    def sqlalchemy_url(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'hookline.db'}"

    @property
    def metrics_dir(self) -> Path:
        """Where the processes of one `hookline up` share their metrics."""
        return self.data_dir.resolve() / "metrics"


def load_settings(**overrides: Any) -> Settings:
    """The settings from the environment.

    Raises:
        InvalidSetting: naming each variable whose value can't be used, and what is accepted.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        faults = "; ".join(
            f"{ENV_PREFIX}{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"
            for error in exc.errors()
        )
        raise InvalidSetting(faults) from exc
