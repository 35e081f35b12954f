"""Every `HOOKLINE_*` setting, typed, in one place. docs/settings.md is generated from here.

A wrong value is refused at start with one line that names the variable. Nothing else reads the environment.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
import tempfile
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.config.egress_proxy import NoProxyList, ProxyUrl, is_no_proxy_entry
from shared.config.server_urls import NO_CLUSTER, BrokerAddress, parse_broker, parse_redis
from shared.config.setting_types import (
    AdminKey,
    BrokerUrl,
    CaBundle,
    DatabaseUrl,
    Duration,
    HeartbeatDuration,
    HttpUrl,
    InvalidSetting,
    Networks,
    Origins,
    PortRange,
    Ports,
    PositiveDuration,
    RedisUrl,
    RootPath,
    Scopes,
    SecretKeys,
)

ENV_PREFIX = "HOOKLINE_"
MAX_SOCKET_PATH_BYTES = 100
"""Linux accepts 107 bytes as the path of a socket, macOS 103."""


class Settings(BaseSettings):
    """The settings of an installation; blank means unset. Unset URLs mean embedded servers in the data directory.

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
        description="Redis or Valkey that holds the event streams: `redis://`, `rediss://`, `unix://`, "
        "`redis+sentinel://` or `redis+cluster://` ([brokers.md](brokers.md)); unset: the embedded Valkey.",
    )
    broker_url: BrokerUrl | None = Field(
        None,
        validate_default=True,
        repr=False,
        description="Celery's broker: Redis or Valkey, by the same URLs except a cluster's, or RabbitMQ, `amqp://` or "
        "`amqps://`; unset: the same server as the streams (embedded: its database 1).",
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
    admin_api_key: AdminKey | None = Field(
        None,
        description="The first admin's API key, instead of one that `hookline init` generates and prints: at least 20 "
        "characters, 8 different ones, without blanks, such as `hlk-$(openssl rand -hex 32)`.",
    )
    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: int = Field(8080, ge=0, le=65535, description="Port on which the API listens.")
    api_connections: int = Field(
        1000,
        ge=10,
        le=50_000,
        description="Connections that one API process holds. Beyond them it closes one that has not sent a whole "
        "request, or refuses the new one with 503. The limit of open files must be higher by 240.",
    )
    url: HttpUrl = Field("http://127.0.0.1:8080", description="Where the `hookline` commands find the API.")
    console: bool = Field(
        True, description="Whether the API serves the console under `/console` ([console.md](console.md))."
    )
    public_url: HttpUrl | None = Field(
        None,
        description="Where browsers find the API, such as `https://hooks.example.com`; needed where a proxy in front "
        "adds TLS or another name. Unset: the address that a request names. Workers that know it put links to the "
        "console into Slack messages, and into payloads that ask for them.",
    )
    root_path: RootPath = Field(
        "",
        description="The prefix below which a proxy serves all of it, such as `/hookline`, and which the proxy passes "
        "on ([nginx](operations.md#behind-a-proxy)). Requests without the prefix are answered too.",
    )
    trusted_proxies: Networks = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, comma-separated networks. "
        "A proxy has to append to the former, or to replace it.",
    )
    request_log: bool = Field(
        False, description="Whether the API logs each request: client, method, path, status, size and duration."
    )
    cors_origins: Origins = Field(
        (),
        description="Origins of other sites whose pages may call the API in browsers, comma-separated, such as "
        "`https://dash.example.com`: with a Bearer key, never with cookies, and not the console.",
    )
    console_insecure: bool = Field(
        False,
        description="Whether people may sign in to the console over plain http from other machines. Everybody on the "
        "way could read their sessions: only for networks that are private as a whole.",
    )
    oidc_issuer: HttpUrl | None = Field(
        None,
        description="The OpenID Connect provider with which people sign in to the console, besides API keys "
        "([security.md](security.md#signing-in-with-an-identity-provider)): its issuer, as its metadata say it. "
        "Needs the extra `oidc`.",
    )
    oidc_client_id: str | None = Field(None, min_length=1, description="Hookline's client id at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="Hookline's client secret at the provider; unset for a public client, which PKCE protects."
    )
    oidc_scopes: Scopes = Field("openid email profile", description="What the provider is asked for.")
    oidc_claim: str = Field(
        "sub",
        min_length=1,
        description="The claim that tells whose account it is, the first time that it is used: its value is a user's "
        "name. `email` is compared with users' addresses instead, if the provider has verified it.",
    )
    oidc_name: str = Field(
        "single sign-on", min_length=1, max_length=64, description="What the console calls the provider."
    )
    api_key: SecretStr | None = Field(None, description="The API key that the `hookline` commands use.")
    wandb_runs: bool = Field(
        False,
        description="Whether runs of the `wandb` client whose `WANDB_BASE_URL` is this API become events "
        "([wandb](sources/wandb.md)). Off: `wandb.init()` is refused at once.",
    )
    wandb_heartbeat: HeartbeatDuration = Field(
        timedelta(minutes=5),
        description="After how long a silence a run of the `wandb` client is published as `crashed`: a second to 30 "
        "days. The client sends something every 30 seconds.",
    )
    partitions: int = Field(
        16,
        ge=1,
        le=1024,
        description="Number of event streams; publishers must use the same. Change it only when all are evaluated.",
    )
    max_stream_bytes: int | None = Field(
        None,
        ge=0,
        description="Memory of the server with the streams above which publishing is answered with 503; 0: no limit; "
        "unset: three quarters of its `maxmemory` or, if it has none, half of its machine's memory.",
    )
    event_retention: Duration = Field(
        timedelta(hours=24),
        description="How long evaluated events stay in the streams; less while their memory is nearly full.",
    )
    event_log: Duration = Field(
        timedelta(0),
        description="How long evaluated events are kept in the database, compressed, for lists and explanations; 0: as "
        "long as the streams hold them. Deliveries are kept at least as long.",
    )
    delivery_retention: Duration = Field(
        timedelta(days=30),
        description="How long delivered and skipped deliveries are kept, at least `event_retention`; 0: permanently.",
    )
    dead_letter_retention: Duration = Field(
        timedelta(days=90),
        description="How long dead letters and poison entries are kept; 0: permanently.",
    )
    window_retention: Duration = Field(
        timedelta(days=30),
        description="How long the metric windows and firing times of a run or collection outlive its last event; "
        "0: permanently. A cooldown keeps what it needs until it ends.",
    )
    audit_retention: Duration = Field(
        timedelta(0), description="How long records of the audit log are kept; 0: permanently."
    )
    revision_retention: Duration = Field(
        timedelta(days=90),
        description="How long earlier revisions of automations and webhooks are kept, up to 500 of each; "
        "0: as many as that. The one in force at the beginning of that time is kept too.",
    )
    allowed_networks: Networks = Field(
        (),
        description="Private networks that webhooks may reach, comma-separated: `10.0.0.0/8,::1/128`.",
    )
    allow_http: bool = Field(False, description="Whether webhooks may use plain http outside the allowed networks.")
    allowed_ports: Ports = Field(
        (PortRange(80, 80), PortRange(443, 443), PortRange(1024, 65535)),
        description="The ports of endpoints that webhooks may use, in allowed networks too, comma-separated.",
    )
    egress_proxy: ProxyUrl | None = Field(
        None,
        description="The proxy through which requests to endpoints leave, by CONNECT: `http://proxy:3128` or "
        "`https://…`, with `user:password@` if it asks for them; unset: none "
        "([operations.md](operations.md#where-only-a-proxy-leads-outside)).",
    )
    egress_no_proxy: NoProxyList | None = Field(
        None,
        description="Endpoints that are reached without the proxy, comma-separated: hosts, which stand for their "
        "subdomains too, addresses, networks, `*`; each with a port if any. Unset: what `NO_PROXY` says.",
    )
    ca_bundle: CaBundle | None = Field(
        None,
        description="A PEM file of certificate authorities to trust for endpoints, besides the system's.",
    )
    disable_after: Duration = Field(
        timedelta(days=5), description="A webhook is disabled after it has only failed for this long."
    )
    evaluate_batch: int = Field(500, ge=1, le=5000, description="Stream entries evaluated in one transaction.")
    claim_batch: int = Field(256, ge=1, le=2000, description="Deliveries claimed for one webhook in one statement.")
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
        description="How long a worker that shuts down waits for requests in flight; the rest is sent again later.",
    )
    drains_per_webhook: int = Field(2, ge=1, le=64, description="Workers that drain the same webhook at the same time.")
    drain_slice: PositiveDuration = Field(
        timedelta(seconds=2), description="How long a drain works before it makes room for other drains."
    )
    worker_threads: int = Field(32, ge=1, le=500, description="Drains that one worker process runs at the same time.")
    database_connections: int = Field(
        40,
        ge=1,
        le=1000,
        description="The most connections to the database that one process opens. More threads than that take turns: "
        "each needs a connection for milliseconds. PostgreSQL's `max_connections` must cover all processes.",
    )
    database_pooling: Literal["session", "transaction"] = Field(
        "session",
        description="`transaction` behind a pooler that gives each transaction another server, such as PgBouncer with "
        "`pool_mode = transaction`, which is refused otherwise ([how](scale-out.md#pgbouncer)).",
    )
    lease_margin: Duration = Field(
        timedelta(seconds=30),
        description="How long past a webhook's time-out a claimed delivery stays with its worker.",
    )
    sweep_interval: PositiveDuration = Field(
        timedelta(seconds=1),
        description="How often the dispatcher looks for due retries, expired leases and lagging partitions.",
    )
    reload_interval: Duration = Field(
        timedelta(milliseconds=500), description="How often a worker looks for edited automations."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for `/metrics` of a worker or the dispatcher, on `metrics_host`; 0: none.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address for `/metrics` of a worker or the dispatcher; `0.0.0.0` where Prometheus runs elsewhere.",
    )
    heartbeat_file: Path | None = Field(
        None,
        description="A file that a worker or the dispatcher touches every few seconds, for liveness probes; "
        "unset: none.",
    )
    otel: bool = Field(
        False,
        description="Whether to trace with OpenTelemetry, from publishing to each attempt; the usual "
        "`OTEL_EXPORTER_OTLP_*` variables say where spans go. Needs the extra `otel`.",
    )
    metrics_per_webhook: bool = Field(False, description="Whether delivery metrics carry a `webhook` label.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`json` for machines, `console` for people; `auto`: console on a terminal, else json."
    )

    @property
    def without_egress_proxy(self) -> str:
        """The endpoints that are reached without the proxy, as `parse_no_proxy` reads them.

        Entries of `NO_PROXY` that can't be read are left out: it is written for other programs too.
        """
        if self.egress_no_proxy is not None:
            return self.egress_no_proxy
        entries = re.split(r"[,\s]+", os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "")
        return ",".join(entry for entry in entries if entry and is_no_proxy_entry(entry))

    @field_validator("broker_url")
    @classmethod
    def _needed_beside_a_cluster(cls, broker_url: str | None, info: ValidationInfo) -> str | None:
        redis_url = info.data.get("redis_url")
        if broker_url is None and redis_url is not None and parse_redis(redis_url).cluster:
            raise ValueError(f"must be set where HOOKLINE_REDIS_URL is a Redis Cluster, and {NO_CLUSTER}")
        return broker_url

    @property
    def valkey_socket(self) -> Path:
        """The embedded Valkey's Unix socket; below the temporary directory when the data directory's path is too long.

        There its folder has a name that others can guess, so whoever opens the socket asks `check_socket_folder`.
        """
        path = self.data_dir.resolve() / "valkey.sock"
        if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"hookline-{digest}" / "valkey.sock"

    @property
    def stream_url(self) -> str:
        """URL of the server with the event streams."""
        return self.redis_url or f"unix://{quote(str(self._checked_socket))}?db=0"

    @property
    def _checked_socket(self) -> Path:
        """The socket. Raises InvalidSetting where its folder is not that of whom the data directory belongs to."""
        check_socket_folder(self.valkey_socket.parent, self.data_dir)
        return self.valkey_socket

    @property
    def broker(self) -> BrokerAddress:
        """Celery's broker: the one that is set, else the server with the streams (embedded: its database 1)."""
        return parse_broker(self.broker_url or self.redis_url or f"unix://{quote(str(self._checked_socket))}?db=1")

    @property
    def celery_broker_url(self) -> str:
        """URL of Celery's broker, as Celery takes it."""
        return self.broker.url

    @property
    def console_url(self) -> str | None:
        """Where browsers find the console, such as `https://hooks.example.com/console`.

        None where HOOKLINE_PUBLIC_URL does not say it, or there is no console.
        """
        if self.public_url is None or not self.console:
            return None
        public = urlsplit(self.public_url)
        return f"{public.scheme}://{public.netloc}{self.root_path or public.path.rstrip('/')}/console"

    @property
    def sqlalchemy_url(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'hookline.db'}"

    @property
    def metrics_dir(self) -> Path:
        """The folder in which the processes of one `hookline up` share their metrics."""
        return self.data_dir.resolve() / "metrics"


def load_settings(**overrides: Any) -> Settings:
    """The settings from the environment.

    Raises:
        InvalidSetting: naming each variable whose value can't be used, and what is accepted; and each `HOOKLINE_*` that
            is no setting, so that a misspelt one is not overlooked.
    """
    given = (name for name, value in os.environ.items() if value and name.upper().startswith(ENV_PREFIX))
    if unknown := [name for name in given if not _is_known(name)]:
        raise InvalidSetting("; ".join(map(_unknown, sorted(unknown))))
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        faults = "; ".join(
            f"{ENV_PREFIX}{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"
            for error in exc.errors()
        )
        raise InvalidSetting(faults) from exc


def check_socket_folder(folder: Path, data_dir: Path) -> None:
    """Make sure that nobody but whom the data directory belongs to can put a socket into its folder.

    A folder that is not there yet is fine: there is nothing to connect to.

    Raises:
        InvalidSetting: saying what is wrong with the folder.
    """
    try:
        if folder == data_dir.resolve():
            return
        found, owner = folder.lstat(), data_dir.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as exc:
        raise InvalidSetting(f"HOOKLINE_DATA_DIR: {folder} can't be used: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise InvalidSetting(
            f"HOOKLINE_DATA_DIR: Valkey's socket for so long a path is in {folder}, which must be a folder of the data "
            "directory's owner with mode 0700: remove it, or use a shorter path"
        )


_OF_SERVICES = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?", re.ASCII
)
"""How names end that Kubernetes makes of the services beside a pod (its docs, "Accessing the Service")."""
_OF_OTHERS = frozenset({"IMAGE", "PUBLISH", "ENTITY", "SOURCE", "SPOOL", "CONFIG_KEYS", "OUTBOX_URL"})
"""Variables of deploy/compose and of the Python client, which may be exported for them."""
_OF_RUNS = re.compile(r"RUN_(ID|PROJECT|NAME)|MLFLOW_[A-Z_]+")
"""Variables that `hookline run` gives its command, and those of the MLflow plugin."""


def _is_known(variable: str) -> bool:
    name = variable.upper().removeprefix(ENV_PREFIX)
    if name.lower() in Settings.model_fields or name in _OF_OTHERS or _OF_RUNS.fullmatch(name):
        return True
    if name.endswith("_PORT") and re.match("(tcp|udp|sctp)://", os.environ[variable]):
        return True
    return bool(re.search(f"(?:{_OF_SERVICES.pattern})$", f"_{name}"))


def _unknown(variable: str) -> str:
    names = {name.upper(): f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    near = difflib.get_close_matches(variable.upper().removeprefix(ENV_PREFIX), names)
    meant = f"did you mean {' or '.join(names[one] for one in near)}?" if near else "see docs/settings.md"
    return f"{variable}: is not a setting; {meant}"
