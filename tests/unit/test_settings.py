"""Settings: each variable is read, each wrong value is refused in one line that names it, and no secret is shown."""

from __future__ import annotations

import base64
import os
import tempfile
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.config.egress_proxy import PROXY_FORM
from shared.config.server_urls import BROKER_FORM, REDIS_FORM
from shared.config.setting_types import InvalidSetting, PortRange, split_keys
from shared.settings import ENV_PREFIX, MAX_SOCKET_PATH_BYTES, Settings, load_settings
from tests import authority

# Always the same: they are part of the tests' names, which every process of a run has to agree on.
AUTHORITY = Path(__file__).with_name("authority.pem")
KEY, SECOND_KEY = (base64.urlsafe_b64encode(byte * 32).decode() for byte in (b"k", b"l"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


ADMIN_KEY = "hlk-0123456789abcdef"


def from_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"{ENV_PREFIX}{name}", value)
    return load_settings()


ACCEPTED: dict[str, list[tuple[str, Any]]] = {
    "data_dir": [("/var/lib/hookline", Path("/var/lib/hookline")), ("x", Path("x"))],
    "redis_url": [
        ("redis://cache:6379/3", "redis://cache:6379/3"),
        ("rediss://u:p@cache", "rediss://u:p@cache"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("unix:///run/valkey.sock?db=2", "unix:///run/valkey.sock?db=2"),
    ],
    "broker_url": [("amqp://guest@rabbit//", "amqp://guest@rabbit//"), ("redis://a;redis://b", "redis://a;redis://b")],
    "database_url": [
        ("postgresql+psycopg://u:p@db:5432/hookline", "postgresql+psycopg://u:p@db:5432/hookline"),
        ("postgresql://u:p%40@db/hookline", "postgresql+psycopg://u:p%40@db/hookline"),
        ("postgres://db/hookline", "postgresql+psycopg://db/hookline"),
        ("postgresql+psycopg://u@/hookline?host=/run/pg", "postgresql+psycopg://u@/hookline?host=/run/pg"),
        ("sqlite:////var/lib/hookline.db", "sqlite:////var/lib/hookline.db"),
    ],
    "secret_keys": [(KEY, SecretStr(KEY)), (f"{KEY},{SECOND_KEY}", SecretStr(f"{KEY},{SECOND_KEY}"))],
    "admin_api_key": [(ADMIN_KEY, SecretStr(ADMIN_KEY))],
    "console": [("1", True), ("true", True), ("off", False)],
    "public_url": [("https://hooks.example.com", "https://hooks.example.com")],
    "console_insecure": [("1", True), ("true", True), ("off", False)],
    "root_path": [("/hookline", "/hookline"), ("/ml/hooks-1/", "/ml/hooks-1"), ("/", "")],
    "trusted_proxies": [("10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1")))],
    "request_log": [("1", True), ("true", True), ("off", False)],
    "cors_origins": [
        ("https://dash.example.com", ("https://dash.example.com",)),
        ("http://localhost:3000, https://[::1]:8443", ("http://localhost:3000", "https://[::1]:8443")),
    ],
    "oidc_issuer": [("https://id.example.com/realm", "https://id.example.com/realm")],
    "oidc_client_id": [("hookline", "hookline")],
    "oidc_client_secret": [("s3cret", SecretStr("s3cret"))],
    "oidc_scopes": [("openid", "openid"), ("openid groups", "openid groups")],
    "oidc_claim": [("email", "email")],
    "oidc_name": [("Example", "Example")],
    "api_key": [("hlk-2", SecretStr("hlk-2"))],
    "host": [("0.0.0.0", "0.0.0.0"), ("::1", "::1")],
    "port": [("0", 0), ("65535", 65535)],
    "url": [("https://hookline.example.com", "https://hookline.example.com"), ("http://[::1]:80", "http://[::1]:80")],
    "partitions": [("1", 1), ("1024", 1024)],
    "max_stream_bytes": [("0", 0), ("4000000000", 4_000_000_000)],
    "event_retention": [("0s", timedelta()), ("7d", timedelta(days=7)), ("1h30m", timedelta(minutes=90))],
    "delivery_retention": [("0s", timedelta()), ("90d", timedelta(days=90))],
    "dead_letter_retention": [("0s", timedelta()), ("1h", timedelta(hours=1))],
    "window_retention": [("0s", timedelta()), ("2d", timedelta(days=2))],
    "audit_retention": [("0s", timedelta()), ("365d", timedelta(days=365))],
    "event_log": [("0s", timedelta()), ("7d", timedelta(days=7))],
    "wandb_runs": [("true", True), ("0", False)],
    "wandb_heartbeat": [("90s", timedelta(seconds=90)), ("30d", timedelta(days=30))],
    "revision_retention": [("0s", timedelta()), ("365d", timedelta(days=365))],
    "allowed_networks": [
        ("10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
        (" 10.1.2.3/8 ,::1/128,127.0.0.1,", tuple(map(ip_network, ["10.0.0.0/8", "::1/128", "127.0.0.1/32"]))),
    ],
    "allow_http": [("1", True), ("true", True), ("off", False)],
    "allowed_ports": [
        ("443", (PortRange(443, 443),)),
        (" 80, 8000-8999,1-65535,", (PortRange(80, 80), PortRange(8000, 8999), PortRange(1, 65535))),
    ],
    "egress_proxy": [("http://u:p@proxy:3128", SecretStr("http://u:p@proxy:3128"))],
    "egress_no_proxy": [("10.0.0.0/8, example.com:443", "10.0.0.0/8, example.com:443"), ("*", "*")],
    "ca_bundle": [(str(AUTHORITY), AUTHORITY)],
    "disable_after": [("36h", timedelta(hours=36))],
    "evaluate_batch": [("1", 1), ("5000", 5000)],
    "claim_batch": [("1", 1), ("2000", 2000)],
    "max_in_flight": [("1", 1), ("2000", 2000)],
    "max_connections": [("2", 2), ("50000", 50_000)],
    "shutdown_grace": [("0s", timedelta()), ("1m", timedelta(minutes=1))],
    "drains_per_webhook": [("1", 1), ("64", 64)],
    "drain_slice": [("1ms", timedelta(milliseconds=1))],
    "worker_threads": [("1", 1), ("500", 500)],
    "database_connections": [("1", 1), ("1000", 1000)],
    "database_pooling": [("session", "session"), ("transaction", "transaction")],
    "lease_margin": [("0s", timedelta()), ("1m", timedelta(minutes=1))],
    "sweep_interval": [("250ms", timedelta(milliseconds=250))],
    "reload_interval": [("0s", timedelta())],
    "api_connections": [("10", 10), ("50000", 50_000)],
    "metrics_port": [("9100", 9100)],
    "metrics_host": [("127.0.0.1", "127.0.0.1")],
    "heartbeat_file": [("/run/beat", Path("/run/beat"))],
    "metrics_per_webhook": [("yes", True)],
    "otel": [("1", True), ("off", False)],
    "log_level": [("DEBUG", "DEBUG"), ("ERROR", "ERROR")],
    "log_format": [("json", "json"), ("console", "console")],
}
DURATION = "must be a duration such as 30s, 15m, 24h or 5d"
SPAN = f"{DURATION}, and longer than 0"
NUMBER = "Input should be a valid integer, unable to parse string as an integer"
FLAG = "Input should be a valid boolean, unable to interpret input"
REDIS = REDIS_FORM
DATABASE = "must be postgresql://user:password@host/name or sqlite:///path"
BROKER = BROKER_FORM
API = "must be a URL such as http://127.0.0.1:8080"
KEYS = "must be Fernet keys (32 bytes in url-safe base64), comma-separated, newest first"
ROOT_PATH = (
    "must be a path such as /hookline, of letters, digits and -._~, that begins with none of the API's own: "
    "console, docs, graphql, healthz, metrics, openapi.json, readyz, redoc, v1"
)
ORIGINS = "must be origins as browsers write them, such as https://dash.example.com,http://localhost:3000; "
NETWORKS = "must be networks such as 10.0.0.0/8,::1/128: "
PORTS = "must be ports from 1 to 65535 and ranges of them, such as 80,443,8000-8999"
BUNDLE = "must be a file of certificates in PEM: "
LEVELS = "Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"


def above(limit: int) -> str:
    return f"Input should be greater than or equal to {limit}"


def below(limit: int) -> str:
    return f"Input should be less than or equal to {limit}"


SCOPES = "must be openid, and others after it, separated by single spaces"
REFUSED: list[tuple[str, str, str]] = [
    *(
        ("redis_url", value, REDIS)
        for value in ("cache:6379", "http://cache", "redis://cache:port", "unix://run/x", "x")
    ),
    *(("redis_url", value, REDIS) for value in ("redis://:p4ss-w0rd@h:70000/0", "redis://[::1", "redis:/cache")),
    *(
        ("redis_url", value, REDIS)
        for value in ("redis://h/orders", "redis://:p4ss-w0rd/1@h", "redis://:p4ss-w0rd#1@h")
    ),
    ("redis_url", "redis://h?p4ss-w0rd=1", f"{REDIS}; redis:// takes no options"),
    ("redis_url", "redis+sentinel://a,b/", f"{REDIS}: the name of the master is missing"),
    ("redis_url", "sentinel://a:1;sentinel://b:2", REDIS),
    *(("broker_url", value, BROKER) for value in ("rabbit", "rabbit:5672", "//rabbit", "Amqp://x", " amqp://x")),
    ("broker_url", "sqs://p4ss-w0rd@", BROKER),
    *(
        ("database_url", value, DATABASE)
        for value in ("hookline.db", "mysql://u:p4ss-w0rd@db/x", "sqlite://", "postgresql")
    ),
    *(
        ("url", value, API)
        for value in ("hookline", "ftp://x", "https://", "http://h:port", "http://[::1", "http://[::1]x:8")
    ),
    *(("secret_keys", value, KEYS) for value in ("s3cret-key", f"{KEY},s3cret-key", f"{KEY[:-1]}", ",", " ")),
    *((name, value, NUMBER) for name in ("port", "partitions", "claim_batch") for value in ("many", "1.5", "0x10")),
    ("port", "-1", above(0)),
    ("port", "65536", below(65535)),
    ("metrics_port", "65536", below(65535)),
    ("partitions", "0", above(1)),
    ("partitions", "1025", below(1024)),
    ("evaluate_batch", "5001", below(5000)),
    ("claim_batch", "2001", below(2000)),
    ("max_in_flight", "0", above(1)),
    ("drains_per_webhook", "65", below(64)),
    ("worker_threads", "0", above(1)),
    ("database_connections", "0", above(1)),
    *((name, "soon", DURATION) for name in ("event_retention", "disable_after", "lease_margin", "reload_interval")),
    *((name, "5", DURATION) for name in ("drain_slice", "sweep_interval", "event_retention")),
    *((name, "-5s", DURATION) for name in ("drain_slice", "sweep_interval", "event_retention")),
    ("event_retention", "11000d", f"{DURATION}, and no longer than ten years"),
    *(("wandb_heartbeat", value, f"{DURATION}, from 1s to 30d") for value in ("0s", "999ms", "31d")),
    ("drain_slice", "0s", SPAN),
    ("sweep_interval", "0ms", SPAN),
    ("allow_http", "maybe", FLAG),
    ("metrics_per_webhook", "2", FLAG),
    ("root_path", "hookline", ROOT_PATH),
    ("root_path", "/a//b", ROOT_PATH),
    ("root_path", "/a/../b", ROOT_PATH),
    ("root_path", "/a b", ROOT_PATH),
    ("root_path", "/v1", ROOT_PATH),
    ("root_path", "/console/x", ROOT_PATH),
    ("trusted_proxies", "nginx", f"{NETWORKS}'nginx' does not appear to be an IPv4 or IPv6 network"),
    ("cors_origins", "*", f"{ORIGINS}'*' is none"),
    ("cors_origins", "null", f"{ORIGINS}'null' is none"),
    ("cors_origins", "https://a.example/", f"{ORIGINS}'https://a.example/' is none"),
    ("cors_origins", "https://A.example", f"{ORIGINS}'https://A.example' is none"),
    ("allowed_networks", "10.0.0.0/33", f"{NETWORKS}'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network"),
    ("allowed_networks", "10.0.0.0/8;::1", f"{NETWORKS}'10.0.0.0/8;::1' does not appear to be an IPv4 or IPv6 network"),
    ("allowed_networks", "all\nof it", f"{NETWORKS}'all\\nof it' does not appear to be an IPv4 or IPv6 network"),
    *(("allowed_ports", value, PORTS) for value in ("http", "0", "65536", "9-8", "80;443", ",", "80-", "-80", "٤٤٣")),
    *(("egress_proxy", value, PROXY_FORM) for value in ("proxy", "socks5://u:p4ss-w0rd@proxy", "http://")),
    ("egress_no_proxy", "a:b", "must be hosts, addresses, networks or *, with a port if any, not 'a:b'"),
    ("ca_bundle", "/nowhere/ca.pem", f"{BUNDLE}/nowhere/ca.pem: No such file or directory"),
    ("ca_bundle", "/", f"{BUNDLE}/: Is a directory"),
    ("ca_bundle", __file__, f"{BUNDLE}{__file__}: is not ASCII text"),
    ("ca_bundle", authority.__file__, f"{BUNDLE}{authority.__file__}: holds no certificate that can be read"),
    *(("oidc_scopes", value, SCOPES) for value in ("email", "openid  email", "openid\n")),
    ("log_level", "TRACE", LEVELS),
    ("log_level", "info", LEVELS),
    ("log_format", "xml", "Input should be 'auto', 'console' or 'json'"),
]


def test_the_table_names_every_setting() -> None:
    assert ACCEPTED.keys() == Settings.model_fields.keys()


def test_without_any_variable_the_embedded_default_is_meant() -> None:
    settings = load_settings()
    folder = Path(".hookline").resolve()
    assert settings.stream_url == f"unix://{folder}/valkey.sock?db=0"
    assert settings.celery_broker_url == f"redis+socket://{folder}/valkey.sock?virtual_host=1"
    assert settings.sqlalchemy_url == f"sqlite:///{folder}/hookline.db"
    assert settings.allowed_networks == ()
    assert not settings.allow_http


@pytest.mark.parametrize(
    ("name", "text", "value"), [(name, text, value) for name, cases in ACCEPTED.items() for text, value in cases]
)
def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    found = getattr(from_environment(monkeypatch, **{name.upper(): text}), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_blank_variable_is_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert from_environment(monkeypatch, **{name.upper(): ""}) == load_settings()


@pytest.mark.parametrize(("name", "text", "message"), REFUSED)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        from_environment(monkeypatch, **{name.upper(): text})
    assert str(caught.value) == f"HOOKLINE_{name.upper()}: {message}"
    assert "\n" not in str(caught.value)
    for error in (caught.value, caught.value.__cause__):
        assert not any(secret in f"{error} {error!r}" for secret in ("p4ss-w0rd", "s3cret-key", KEY))


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting) as caught:
        from_environment(monkeypatch, PORT="x", LOG_LEVEL="x", DRAIN_SLICE="x")
    named = [part.partition(":")[0] for part in str(caught.value).split("; ")]
    assert named == ["HOOKLINE_PORT", "HOOKLINE_DRAIN_SLICE", "HOOKLINE_LOG_LEVEL"]


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "not a port")
    monkeypatch.setenv("HOOKLINE_IMAGE", "hookline:1")  # the compose file's
    monkeypatch.setenv("HOOKLINE_MISSPELT", "")  # blank means unset
    # What Kubernetes makes of services beside a pod.
    for service in ("HOOKLINE", "HOOKLINE_API", "HOOKLINE_VALKEY_0"):
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{service}_SERVICE_PORT", "8080")
        monkeypatch.setenv(f"{service}_SERVICE_PORT_HTTP", "8080")
        monkeypatch.setenv(f"{service}_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        monkeypatch.setenv(f"{service}_PORT_8080_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("HOOKLINE_VALKEY_PORT", "tcp://10.0.0.1:6379")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("HOOKLINE_ALLOWED_NETWORK", "did you mean HOOKLINE_ALLOWED_NETWORKS"),
        ("HOOKLINE_DATABASE_URI", "did you mean HOOKLINE_DATABASE_URL"),
        ("hookline_secret_key", "did you mean HOOKLINE_SECRET_KEYS"),
        ("HOOKLINE_QQ", "see docs/settings.md"),
        ("HOOKLINE_VALKEY_PORT", "is not a setting"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest_names(
    monkeypatch: pytest.MonkeyPatch, variable: str, told: str
) -> None:
    monkeypatch.setenv(variable, "s3cret-value")
    with pytest.raises(InvalidSetting) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{variable}: is not a setting; ")
    assert told in str(caught.value)
    assert "s3cret-value" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["a", "hlk-1", "a" * 40, "abcdefg" * 6, "correct horse battery staple", "12345678\t" * 3]
)
def test_an_administrators_key_that_can_be_guessed_is_refused(key: str) -> None:
    with pytest.raises(InvalidSetting, match="at least 20 characters, 8 different ones") as caught:
        load_settings(admin_api_key=key)
    assert key not in str(caught.value).removeprefix("HOOKLINE_ADMIN_API_KEY: must be at least ") or len(key) == 1


def test_settings_do_not_show_secrets_and_cannot_be_changed() -> None:
    settings = load_settings(
        secret_keys=KEY,
        admin_api_key="admin-s3cret-of-20-characters",
        api_key="api-s3cret",
        oidc_client_secret="oidc-s3cret",
        redis_url="redis://user:redis-s3cret@cache/0",
        broker_url="amqp://user:broker-s3cret@rabbit//",
        database_url="postgresql://user:database-s3cret@db/hookline",
    )
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "s3cret" not in shown
        assert KEY not in shown
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variables", "streams", "broker"),
    [
        ({"REDIS_URL": "redis://a/0"}, "redis://a/0", "redis://a/0"),
        ({"REDIS_URL": "redis://a/0", "BROKER_URL": "amqp://b"}, "redis://a/0", "amqp://b"),
        ({"REDIS_URL": "unix:///r/x.sock?db=3"}, "unix:///r/x.sock?db=3", "redis+socket:///r/x.sock?virtual_host=3"),
        ({"REDIS_URL": "unix:///r/x.sock"}, "unix:///r/x.sock", "redis+socket:///r/x.sock"),
        ({"BROKER_URL": "amqp://b", "DATA_DIR": "/d"}, "unix:///d/valkey.sock?db=0", "amqp://b"),
    ],
)
def test_the_broker_is_the_server_with_the_streams_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], streams: str, broker: str
) -> None:
    settings = from_environment(monkeypatch, **variables)
    assert (settings.stream_url, settings.celery_broker_url) == (streams, broker)


def test_beside_a_cluster_the_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = "redis+cluster://u:p4ss-w0rd@a,b:7"
    settings = from_environment(monkeypatch, REDIS_URL=cluster, BROKER_URL="redis://c")
    assert (settings.stream_url, settings.celery_broker_url) == (cluster, "redis://c")
    for variables in ({"REDIS_URL": cluster}, {"BROKER_URL": cluster}):
        monkeypatch.delenv("HOOKLINE_REDIS_URL")
        monkeypatch.delenv("HOOKLINE_BROKER_URL", raising=False)
        with pytest.raises(InvalidSetting, match=r"^HOOKLINE_BROKER_URL: must") as refused:
            from_environment(monkeypatch, **variables)
        assert "a Redis of its own" in str(refused.value)
        assert "p4ss" not in str(refused.value)
        monkeypatch.setenv("HOOKLINE_REDIS_URL", "")


def test_a_socket_path_is_never_longer_than_the_system_takes() -> None:
    short = load_settings(data_dir="/data").valkey_socket
    assert short == Path("/data/valkey.sock")
    deep = Path("/data") / ("x" * 120)
    far = load_settings(data_dir=deep).valkey_socket
    assert far.name == "valkey.sock"
    assert len(str(far).encode()) <= MAX_SOCKET_PATH_BYTES
    assert far != load_settings(data_dir=deep / "other").valkey_socket
    assert far == load_settings(data_dir=deep).valkey_socket


@pytest.mark.parametrize(
    ("text", "keys"), [("a,b", ["a", "b"]), (" a ,\nb\n c,", ["a", "b", "c"]), ("", []), (",,", [])]
)
def test_keys_are_separated_by_commas_or_lines(text: str, keys: list[str]) -> None:
    assert split_keys(text) == keys


def test_a_socket_folder_that_somebody_else_can_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data_dir = tmp_path / "data" / ("x" * 120)
    data_dir.mkdir(parents=True)
    settings = load_settings(data_dir=data_dir)
    folder = settings.valkey_socket.parent
    assert folder.parent == tmp_path
    assert settings.stream_url.startswith("unix://")  # there is nothing yet
    folder.mkdir(mode=0o700)
    assert settings.celery_broker_url.startswith("redis+socket://")
    folder.chmod(0o755)
    with pytest.raises(InvalidSetting, match="must be a folder of the data directory's owner with mode 0700"):
        _ = settings.stream_url
    folder.rmdir()
    folder.symlink_to(data_dir)
    with pytest.raises(InvalidSetting, match="must be a folder"):
        _ = settings.celery_broker_url
