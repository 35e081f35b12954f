"""No secret anywhere: canaries go the whole way through real processes at DEBUG, and then everything is searched.

The endpoints are the worst that there are: they demand a client certificate, fail, and send back all they got in their
status line, headers and body, plain and encoded. Searched are the broker and the streams with their append-only file,
the database as text and as files, the logs of all processes, the metrics, the exported traces, and every answer of the
API.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine, create_engine, func, inspect, select

from shared.settings import Settings, load_settings
from shared.storage.database.transactions import read_transaction
from shared.storage.maintenance.first_start import prepare
from shared.storage.schema.tables import deliveries
from tests.authority import Authority
from tests.canaries import Search
from tests.integration.processes import dispatcher_command, running, wait_until, worker_command
from tests.integration.receiver import receiving
from tests.integration.scene import alias_event
from tests.servers import free_port, valkey_server

pytestmark = pytest.mark.slow

AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.issue("client")
INNOCENT = "an-innocent-word"
SECRETS = {
    "TOKEN": "tok-canary~7f3a/+x%zz=",
    "SIGNING": "whsec_" + base64.b64encode(b"canary-signing-key-0417-of-24").decode(),
    "GRANTED": 'gr"anted\\canary/+ <é> ${GRANTED} $$ 93b1',
    "PEM_GRANTED": "-----canary-----\nof two lines 5c0e\n",
    "HEADER": "header-canary-8c41~/+zz",
    "URL_PART": "url/canary?&#95d1-part",
    "PASSWORD": "pässword:canary-0d77",
    "PROOF": "proof-canary/+of-a-source-71be",
    "FORMER": "whsec_" + base64.b64encode(b"former-canary-key-of-24-bytes").decode(),
}
WHOLE_PATH = "/api/webhooks/whole-canary-token-in-the-path-31aa?sig=whole-canary-in-the-query"
ADMIN_KEY = "hlk-canary-admin-key-" + "4a7d" * 6
WRONG_KEY = "hlk-canary-wrong-key-" + "be21" * 6
PROXY_PASSWORD = "proxy-canary/+of-20-c4"
FERNET_KEY = Fernet.generate_key().decode()
SLACK_PATH = "/services/TCANARY01/BCANARY02/slackCanarySecret55ab"
KEY_LINES = [line for line in CERTIFICATE.key.splitlines() if len(line) > 60]


def canaries(new_key: str) -> dict[str, str]:
    """Everything that is to be found nowhere."""
    return {
        **SECRETS,
        "SIGNING without its prefix": SECRETS["SIGNING"].removeprefix("whsec_"),
        "GRANTED, its beginning": 'gr"anted\\canary',
        "FORMER without its prefix": SECRETS["FORMER"].removeprefix("whsec_"),
        "WHOLE_URL": WHOLE_PATH,
        "WHOLE_URL, its token": "whole-canary-token-in-the-path-31aa",
        "WHOLE_URL, its query": "whole-canary-in-the-query",
        "PASSWORD with its user": base64.b64encode(f"ci:{SECRETS['PASSWORD']}".encode()).decode(),
        "SLACK_URL": SLACK_PATH,
        "SLACK_URL, its token": SLACK_PATH.rpartition("/")[2],
        **{f"line {number} of the private key": line for number, line in enumerate(KEY_LINES)},
        "the administrator's key": ADMIN_KEY,
        "a key that the API made": new_key,
        "a key that nobody has": WRONG_KEY,
        "the key of the vault": FERNET_KEY,
        "the egress proxy's password": PROXY_PASSWORD,
        "the egress proxy's password with its user": base64.b64encode(f"hook:{PROXY_PASSWORD}".encode()).decode(),
    }


def echo(path: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """All of a request in the ways in which pages for debugging show it, the most telling first, in 4 KiB."""
    whole = "\r\n".join([path, *(f"{name}: {value}" for name, value in headers), "", body.decode()])
    telling = {name: value for name, value in headers if name.lower() in ("authorization", "x-wandb-signature")}
    said = [
        f"{INNOCENT} {path} {telling} {body.decode()}",
        json.dumps({"path": path, "headers": telling, "body": body.decode()}).replace("/", "\\/"),
        base64.b64encode(whole.encode()).decode(),
        base64.urlsafe_b64encode(b"x" + body).decode(),
        quote(str(telling) + path + body.decode(), safe=""),
        body.hex(),
        whole,
    ]
    return "\n".join(said).encode()


@dataclass
class Echoing:
    """A running endpoint that echoes and fails."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def echoing(tls: ssl.SSLContext | None = None) -> Iterator[Echoing]:
    """An endpoint on 127.0.0.1, with this TLS if any."""
    endpoint = Echoing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = self.headers.items()
            endpoint.requests.append(str([self.path, headers]).encode() + body)
            token = self.headers.get("Authorization", "none")
            bare = SECRETS["TOKEN"] if SECRETS["TOKEN"] in token else ""  # what it was not sent it may not know
            answer = echo(self.path, headers, body)
            self.send_response(500 if len(endpoint.requests) % 3 else 302, f"failed {token} {self.path}")
            for name in ("X-Echo", "Retry-After", "Location", "Set-Cookie", "WWW-Authenticate", "Content-Type"):
                self.send_header(name, f"{token} {self.path} {bare}")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_CONNECT(self) -> None:
            """Refuse as a proxy that repeats what it was shown, in its status line, headers and body."""
            shown = self.headers.get("Proxy-Authorization", "none")
            endpoint.requests.append(f"CONNECT {shown}".encode())
            self.send_response(407, f"denied {shown}")
            self.send_header("Proxy-Authenticate", f"{shown} {PROXY_PASSWORD}")
            self.send_header("Content-Length", str(len(shown)))
            self.end_headers()
            self.wfile.write(shown.encode())

        def log_message(self, *_args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return  # clients that leave are no news

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    endpoint.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def demanding(folder: Path) -> ssl.SSLContext:
    """The TLS of a server that lets in who has a certificate of the authority."""
    (folder / "server.pem").write_text(AUTHORITY.issue("127.0.0.1").pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(cadata=AUTHORITY.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass
class Caller:
    """An API client that remembers all that was answered."""

    client: httpx.Client
    answers: list[str] = field(default_factory=list)

    def call(self, method: str, path: str, body: object = None, **more: Any) -> httpx.Response:
        """One request."""
        if body is not None:
            more["json"] = body
        response = self.client.request(method, path, **more)
        self.answers.append(f"{response.status_code} {response.headers} {response.text}")
        return response

    def ok(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """The answer to one that must go through."""
        response = self.call(method, path, body, **more)
        assert response.is_success, response.text
        with suppress(json.JSONDecodeError):
            return response.json()
        return response.text


ACME = "/v1/entities/acme"


def define(api: Caller, hostile: str, chat: str) -> str:
    """Secrets, webhooks and automations that use all of them; the id of the webhook."""
    api.ok("PUT", ACME, {})
    certificate = {
        "CERTIFICATE": CERTIFICATE.pem,
        "SLACK_URL": chat + SLACK_PATH,
        "WHOLE_URL": hostile + WHOLE_PATH,
    }
    for name, value in (SECRETS | certificate).items():
        api.ok("PUT", f"{ACME}/secrets/{name}", {"value": value})
    policy = {"schedule_seconds": [0.1, 0.1], "jitter": 0, "circuit_failures": 1000}
    uses = {
        "access_token": "TOKEN",
        "signing_secret": "SIGNING",
        "former_signing_secret": "FORMER",
        "former_signing_until": "2999-01-01T00:00:00Z",
        "headers": {"X-Api-Key": "k ${HEADER}"},
        "client_certificate": "CERTIFICATE",
        "secrets": ["GRANTED", "SIGNING", "PEM_GRANTED", "CERTIFICATE", "HEADER", "URL_PART"],
        "policy": policy,
    }
    headers = {"Idempotency-Key": "canaries"}
    hook = api.ok(
        "POST",
        f"{ACME}/webhooks",
        {"name": "hostile", "url": f"{hostile}/hook/${{URL_PART}}?q=${{URL_PART}}", **uses},
        headers=headers,
    )
    basic = {"access_token": None, "basic": {"user": "ci", "password_secret": "PASSWORD"}}
    api.ok("POST", f"{ACME}/webhooks", {"name": "whole", "url_secret": "WHOLE_URL", **uses, **basic})
    api.ok("POST", f"{ACME}/webhooks", {"name": "absent", "url": "https://127.0.0.2:1/", **uses})
    slack = {"name": "chat", "url_secret": "SLACK_URL", "team": "T", "channel": "#c", "policy": policy}
    api.ok("POST", f"{ACME}/slack", slack)
    payload = {
        "innocent": INNOCENT,
        "granted": "${GRANTED}",
        "mixed ${GRANTED}": "<${PEM_GRANTED}> ${ACCESS_TOKEN} $SIGNING",
        "run": "${event_author}",
    }
    for webhook in ("hostile", "absent", "whole"):
        without_token = {**payload, "mixed ${GRANTED}": "<${PEM_GRANTED}> $SIGNING"}
        action = {"webhook": webhook, "payload": without_token if webhook == "whole" else payload}
        automation = {"name": f"to-{webhook}", "event": "ADD_ARTIFACT_ALIAS", "action": action}
        api.ok("POST", f"{ACME}/automations", automation)
    others: dict[str, Any] = {
        "application/x-www-form-urlencoded": {
            "innocent": INNOCENT,
            "g": "$GRANTED",
            "in": {"json": "<$GRANTED> $SIGNING"},
        },
        "text/plain": f"{INNOCENT} ${{GRANTED}} ${{PEM_GRANTED}} $event_author",
    }
    for content_type, sent in others.items():
        action = {"webhook": "hostile", "payload": sent, "content_type": content_type}
        automation = {"name": f"as-{content_type[:4]}", "event": "ADD_ARTIFACT_ALIAS", "action": action}
        api.ok("POST", f"{ACME}/automations", automation)
    source = {"name": "repo", "kind": "gitlab", "secret": "PROOF", "project": "models"}
    path = api.ok("POST", f"{ACME}/sources", source)["path"]
    told = {"object_kind": "push", "project": {"path_with_namespace": INNOCENT}, "leak": SECRETS["PROOF"]}
    for value, status in ((SECRETS["PROOF"], 202), (SECRETS["PROOF"][:-1], 401)):
        sent = api.call("POST", path, told, headers={"X-Gitlab-Token": value})
        assert sent.status_code == status, sent.text
    talks = {"name": "talks", "event": "ADD_ARTIFACT_ALIAS", "action": {"slack": "chat", "title": INNOCENT}}
    api.ok("POST", f"{ACME}/automations", talks)
    return str(hook["id"])


def misuse(api: Caller) -> None:
    """Requests with secrets in them that are refused, each in its way."""
    value = SECRETS["GRANTED"]
    path = f"{ACME}/secrets/GRANTED"
    for body in ({"value": [value]}, {"value": {"x": value}}, {"value": value, value: value}, [value], value):
        assert api.call("PUT", path, body).status_code == 422
    assert api.call("PUT", f"{ACME}/secrets/TOKEN", {"value": SECRETS["TOKEN"] + "\n"}).status_code == 422
    assert api.call("PUT", f"{ACME}/secrets/SIGNING", {"value": SECRETS["SIGNING"] + "!"}).status_code == 422
    broken = CERTIFICATE.key + CERTIFICATE.certificate.replace("M", "N")
    assert api.call("PUT", f"{ACME}/secrets/CERTIFICATE", {"value": broken}).status_code == 422
    wrong_url = {"value": "ftp://127.0.0.1" + SLACK_PATH}
    assert api.call("PUT", f"{ACME}/secrets/SLACK_URL", wrong_url).status_code == 422
    raw = json.dumps({"value": value})
    for content in (raw[:-2], raw + "}", raw.encode("utf-16")):
        refused = api.call("PUT", path, content=content, headers={"Content-Type": "application/json"})
        assert refused.status_code in (400, 422)
    for headers in ({"Authorization": f"Bearer {WRONG_KEY}"}, {"Authorization": WRONG_KEY}):
        assert api.call("GET", path, headers=headers).status_code == 401
    assert api.call("GET", path, auth=("user", WRONG_KEY)).status_code == 401


def look_around(api: Caller, webhook_id: str) -> None:
    """Ask for everything that there is to read, in every form."""
    tried = api.ok("POST", f"{ACME}/webhooks/{webhook_id}/test", {"payload": {"g": "${GRANTED} $SIGNING"}})
    assert tried["response"] is not None, tried
    source_id = api.ok("GET", f"{ACME}/sources")["items"][0]["id"]
    assert "***PROOF***" in str(api.ok("GET", f"{ACME}/sources/{source_id}/requests"))
    for path in ("webhooks", "slack", "sources", "automations", "secrets", "deliveries", "audit", "export", "members"):
        api.ok("GET", f"{ACME}/{path}")
    for delivery in api.ok("GET", f"{ACME}/deliveries?limit=500")["items"]:
        api.ok("GET", f"{ACME}/deliveries/{delivery['id']}")
    for form in ("csv", "jsonl"):
        api.ok("GET", f"{ACME}/deliveries/export?format={form}")
    for path in ("/v1/keys", "/v1/users", "/v1/audit", "/v1/schemas", "/openapi.json", "/healthz", "/readyz"):
        api.ok("GET", path)
    for name in ("to-hostile", "as-appl", "as-text"):
        api.ok("POST", f"{ACME}/automations/dry-run", {"automation": name, "events": [alias_event()]})
    viewer = "{ viewer { username teams { edges { node { name } } } } }"
    found = api.ok("POST", "/graphql", {"query": viewer})
    assert "errors" not in found, found
    project = (
        'query { entity(name: "acme") { name integrations { edges { node { __typename ... on GenericWebhookIntegration '
        "{ id name urlEndpoint accessTokenRef secretRef } ... on SlackIntegration { id channelName teamName } } } } } }"
    )
    api.call("POST", "/graphql", {"query": project})


def broker_dump(settings: Settings) -> bytes:
    """Every key and value of both databases, as they are stored and as they are read."""
    parts: list[bytes] = []
    for url in (settings.stream_url, settings.celery_broker_url):
        with Redis.from_url(url) as redis:
            for key in redis.scan_iter():
                read: dict[bytes, Any] = {
                    b"string": redis.get,
                    b"list": lambda key: redis.lrange(key, 0, -1),
                    b"set": redis.smembers,
                    b"hash": redis.hgetall,
                    b"stream": redis.xrange,
                    b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
                }
                kind: Any = redis.type(key)
                if kind in read:
                    parts += [key, repr(read[kind](key)).encode(), redis.dump(key) or b""]
    return b"\n".join(parts)


def rows_of(engine: Engine) -> str:
    """Every row of every table; bytes as they are."""
    with engine.connect() as connection:
        return "\n".join(
            f"{table} {[value.decode('latin-1') if isinstance(value, bytes) else value for value in row]}"
            for table in inspect(connection).get_table_names()
            for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"')
        )


def search_database(search: Search, url: str) -> None:
    """The database as text, and the files that it is in."""
    engine = create_engine(url)
    search.look("the database's rows", rows_of(engine), holding=INNOCENT)
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        files = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
        search.look("SQLite's files", files, holding=INNOCENT)
    else:
        search_postgres(search, url)
    engine.dispose()


def search_postgres(search: Search, url: str) -> None:
    """A dump of every table as `pg_dump` makes it, and the data directory's files of this database."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        dumped = bytearray()
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
                for chunk in copy:
                    dumped += chunk
        search.look("PostgreSQL's dump", bytes(dumped), holding=INNOCENT)
        row = connection.execute(
            "SELECT current_setting('data_directory'), oid FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    folder = Path(row[0]) / "base" / str(row[1])
    search.look_into("PostgreSQL's files", folder, holding=INNOCENT)


def ended(engine: Engine) -> bool:
    """Whether every delivery came to its end."""
    with read_transaction(engine) as connection:
        total = connection.scalar(select(func.count()).select_from(deliveries))
        query = select(func.count()).select_from(deliveries).where(deliveries.c.status.in_(("dead", "refused")))
        return bool(total and total == connection.scalar(query))


def test_no_canary_is_found_anywhere(
    database_url: str, engine_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "authority.pem").write_text(AUTHORITY.pem)
    with ExitStack() as stack:
        valkey = stack.enter_context(valkey_server(data_dir=tmp_path / "valkey", append_only=True))
        hostile = stack.enter_context(echoing(demanding(tmp_path)))
        chat = stack.enter_context(echoing())
        proxy = stack.enter_context(echoing())
        collector = stack.enter_context(receiving())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        api_port, metrics_port = free_port(), free_port()
        settings = load_settings(
            data_dir=tmp_path / "data",
            redis_url=valkey,
            broker_url=valkey.removesuffix("/0") + "/1",
            database_url=database_url,
            secret_keys=SecretStr(FERNET_KEY),
            admin_api_key=SecretStr(ADMIN_KEY),
            allowed_networks="127.0.0.0/8",
            allowed_ports="1-65535",
            ca_bundle=str(tmp_path / "authority.pem"),
            egress_proxy=SecretStr(proxy.url.replace("//", f"//hook:{quote(PROXY_PASSWORD, safe='')}@")),
            egress_no_proxy="127.0.0.1",
            port=api_port,
            partitions=2,
            log_level="DEBUG",
            metrics_per_webhook=True,
            otel=True,
        )
        prepare(settings)
        worker = settings.model_copy(update={"metrics_port": metrics_port, "metrics_host": "127.0.0.1"})
        command = [*worker_command("canaries"), "--loglevel", "DEBUG"]
        stack.enter_context(running([sys.executable, "-m", "dispatcher.cli", "api"], settings, logs / "api.log"))
        stack.enter_context(running(dispatcher_command(), settings, logs / "pump.log"))
        stack.enter_context(running(command, worker, logs / "worker.log"))
        client = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{api_port}", headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30
            )
        )
        api = Caller(client)
        wait_until(lambda: is_up(client), "API")
        created = client.post("/v1/keys", json={"name": "made", "user": "admin"}, headers={"Idempotency-Key": "made"})
        new_key = created.json()["key"]  # shown once, which is the only answer that may hold one
        webhook_id = define(api, hostile.url, chat.url)
        misuse(api)
        api.ok("POST", "/v1/events", [alias_event(author=f"eve ${{GRANTED}} {n}") for n in range(4)])
        engine = engine_of(settings)
        wait_until(lambda: ended(engine), "end of all deliveries", seconds=90)
        api.ok("POST", f"{ACME}/deliveries/replay", {"webhook": "hostile"})
        wait_until(lambda: ended(engine), "end of the replays", seconds=90)
        look_around(api, webhook_id)

        search = Search(canaries(new_key))
        metrics = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text + client.get("/metrics").text
        search.look("metrics", metrics, holding="hookline_attempts_total")
        search.look("the broker's keys", broker_dump(settings), holding="wandb-registry-model")
        search.look("the API's answers", "\n".join(api.answers), holding=INNOCENT)
        sent = b"".join(hostile.requests)
        assert SECRETS["TOKEN"].encode() in sent, "the endpoint never got what it was to echo"
        assert b'gr\\"anted' in sent
        assert b"g=gr%22anted" in sent
        assert f"{INNOCENT} {SECRETS['GRANTED']}".encode() in sent
        assert SLACK_PATH.encode() in b"".join(chat.requests)
        assert base64.b64encode(f"hook:{PROXY_PASSWORD}".encode()) in b"".join(proxy.requests)
    exported = b"".join(request.body for request in collector.requests)  # protobuf holds texts as they are
    for span in ("publish", "evaluate ADD_ARTIFACT_ALIAS", "attempt"):
        search.look("exported spans", exported, holding=span)
    search.look_into("Valkey's append-only file", tmp_path / "valkey", holding="drain_webhook")
    search_database(search, database_url)
    for name, word in (("api", "api.listening"), ("pump", "dispatcher"), ("worker", "delivery.attempted")):
        search.look(f"{name}'s log", (logs / f"{name}.log").read_bytes(), holding=word)
    assert search.finds == [], "\n".join(search.finds)


def is_up(client: httpx.Client) -> bool:
    """Whether the API answers."""
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def engine_of() -> Iterator[Any]:
    """Opens engines that are closed at the end."""
    from shared.storage.database.engine import open_engine

    opened: list[Engine] = []

    def open_one(settings: Settings) -> Engine:
        opened.append(open_engine(settings))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.dispose()


def test_the_search_finds_what_is_there() -> None:
    value = SECRETS["GRANTED"]
    encoded = base64.b64encode(b"xx" + value.encode() + b"yy")
    for content in (value.encode(), json.dumps([value]).encode(), quote(value).encode(), encoded):
        search = Search({"GRANTED": value})
        search.look("a place", b"known " + content, holding="known")
        assert len(search.finds) >= 1, content
    with pytest.raises(AssertionError, match="does not even hold"):
        Search({}).look("a place", b"", holding="known")
