"""A webhook's client certificate: checked when it is saved and when it is replaced, kept while in use, never shown."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import update

from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import secrets
from shared.vault import Vault
from tests.authority import Authority
from tests.integration.api.conftest import ACME, Api, create_webhook, put_secrets, running, webhook

AUTHORITY = Authority()
ONE, TWO = AUTHORITY.issue("one"), AUTHORITY.issue("two")


@pytest.fixture
def certified(api: Api) -> Iterator[Api]:
    """The API with a certificate among acme's secrets; no answer may ever hold a part of its key."""
    put_secrets(api)
    api.ok("PUT", f"{ACME}/secrets/CERTIFICATE", {"value": ONE.pem}, status=201)
    yield api
    lines = {line for issued in (ONE, TWO) for line in issued.key.splitlines() if "-----" not in line}
    assert not [answer for answer in api.answers for line in lines if line in answer]


def test_it_is_named_patched_exported_and_audited(certified: Api) -> None:
    created = create_webhook(certified, webhook(client_certificate="CERTIFICATE"))
    path = f"{ACME}/webhooks/{created['id']}"

    assert created["client_certificate"] == "CERTIFICATE"
    assert certified.ok("GET", path, key="member") == created
    exported = certified.ok("GET", f"{ACME}/export")
    assert exported["webhooks"] == [webhook(client_certificate="CERTIFICATE")]
    assert certified.ok("PATCH", path, {"client_certificate": None})["client_certificate"] is None
    text = yaml.safe_dump(exported)
    for expected in ("updated", "unchanged"):
        (change,) = certified.ok("POST", f"{ACME}/apply", yaml.safe_load(text))["changes"]
        assert (change["change"], change["detail"]) == (
            expected,
            ["client_certificate"] if expected == "updated" else [],
        )
    changes = certified.ok("GET", f"{ACME}/audit")["items"]
    updates = [change["detail"] for change in changes if change["action"] == "webhook.update"]
    assert updates == [{"changed": ["client_certificate"]}] * 2


BAD = [ONE.key, ONE.certificate, ONE.certificate + TWO.key, "no PEM"]


def test_a_secret_that_is_no_certificate_with_its_key_is_refused_for_it(certified: Api) -> None:
    for number, value in enumerate(BAD):
        certified.ok("PUT", f"{ACME}/secrets/BAD_{number}", {"value": value}, status=201)
        body = webhook(client_certificate=f"BAD_{number}")
        problem = certified.refused("POST", f"{ACME}/webhooks", body, status=422)
        assert problem.locs == [["client_certificate"]]
        assert problem.errors[0]["msg"].startswith("as a client certificate it must be a certificate, ")
        manifest = {"webhooks": [body]}
        problem = certified.refused("POST", f"{ACME}/apply", manifest, status=422)
        assert problem.locs == [["webhooks", 0, "client_certificate"]]
    assert certified.ok("GET", f"{ACME}/webhooks")["items"] == []


def test_it_needs_https(certified: Api) -> None:
    created = create_webhook(certified, webhook(url="HTTPS://127.0.0.1/", client_certificate="CERTIFICATE"))
    plain = webhook("plain", url="http://127.0.0.1/", client_certificate="CERTIFICATE")

    for method, path, body in (
        ("POST", f"{ACME}/webhooks", plain),
        ("PATCH", f"{ACME}/webhooks/{created['id']}", {"url": "http://127.0.0.1/"}),
    ):
        problem = certified.refused(method, path, body, status=422)
        assert problem.locs == [["client_certificate"]]
        assert problem.errors[0]["msg"] == "is shown in TLS only: the webhook's url must be https"


def test_a_secret_in_use_as_a_certificate_is_kept_and_stays_one(certified: Api) -> None:
    created = create_webhook(certified, webhook(client_certificate="CERTIFICATE"))
    path = f"{ACME}/secrets/CERTIFICATE"

    assert certified.ok("GET", path)["used_by"] == ["deploy-hook"]
    assert "deploy-hook" in certified.refused("DELETE", path, status=409).detail
    for value in BAD:
        assert certified.refused("PUT", path, {"value": value}, status=422).locs == [["value"]]
    certified.ok("PUT", path, {"value": TWO.pem})
    certified.ok("DELETE", f"{ACME}/webhooks/{created['id']}", status=204)
    certified.ok("DELETE", path, status=204)


@contextmanager
def demanding(folder: Path) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of a server that demands a certificate of the authority, and whose came with which body."""
    seen: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            connection: Any = self.connection
            subject = connection.getpeercert()["subject"]
            name = dict(part for (part,) in subject)["commonName"]
            seen.append((name, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return  # a client without a certificate is what a test is about

    (folder / "server.pem").write_text(AUTHORITY.issue("127.0.0.1").pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(cadata=AUTHORITY.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/hook", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_a_trial_shows_the_certificate(certified: Api, settings: Settings, tmp_path: Path) -> None:
    bundle = tmp_path / "authority.pem"
    bundle.write_text(AUTHORITY.pem)
    with (
        demanding(tmp_path) as (url, seen),
        running(settings.model_copy(update={"ca_bundle": bundle})) as client,
    ):
        trusting = Api(client)
        shown = create_webhook(trusting, webhook(url=url, client_certificate="CERTIFICATE"))
        bare = create_webhook(trusting, webhook("bare", url=url))

        tried = trusting.ok("POST", f"{ACME}/webhooks/{shown['id']}/test")
        refused = trusting.ok("POST", f"{ACME}/webhooks/{bare['id']}/test")
        trusting.ok("PUT", f"{ACME}/secrets/CERTIFICATE", {"value": TWO.pem})
        again = trusting.ok("POST", f"{ACME}/webhooks/{shown['id']}/test")
        certified.answers += trusting.answers
    assert [name for name, _body in seen] == ["one", "two"]
    assert (tried["outcome"], again["outcome"], refused["outcome"]) == ("2xx", "2xx", "network")
    assert "client_certificate" in refused["diagnosis"]


def test_a_trial_says_that_this_hosts_openssl_refuses_the_certificate(certified: Api, settings: Settings) -> None:
    created = create_webhook(certified, webhook(url="https://127.0.0.1/", client_certificate="CERTIFICATE"))
    weak = AUTHORITY.issue_weak("weak")
    problem = certified.refused("PUT", f"{ACME}/secrets/CERTIFICATE", {"value": weak.pem}, status=422)
    assert "OpenSSL says: ee key too small" in problem.errors[0]["msg"]

    engine = open_engine(settings)  # as if it had been saved where OpenSSL takes it
    with write_transaction(engine) as connection:
        connection.execute(update(secrets).values(ciphertext=Vault.open(settings).encrypt(weak.pem)))
    engine.dispose()
    problem = certified.refused("POST", f"{ACME}/webhooks/{created['id']}/test", status=409)
    assert problem.detail.endswith("the client certificate can't be used in TLS: ee key too small")
