"""deploy/nginx/hookline.conf before a running service: TLS, a prefix, sizes of bodies, links, cookies, addresses."""

from __future__ import annotations

import ipaddress
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from dispatcher.client.api_client import Client
from tests.integration.api.console.world import PATIENCE_SECONDS, World, served
from tests.integration.processes import wait_until
from tests.servers import free_port

CONF = Path(__file__).parents[4] / "deploy" / "nginx" / "hookline.conf"
PREFIX = "/hookline"
_FRAME = """daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/hookline.conf;
}}
"""
_LINK = re.compile(r' (href|src|action|formaction|hx-[a-z-]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Site:
    """A running nginx, with the service behind it."""

    url: str
    plain_port: int
    client: httpx.Client
    folder: Path


def _certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "hooks.example.com.key").write_bytes(private)
    (folder / "hooks.example.com.crt").write_bytes(made.public_bytes(pem))


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The world behind nginx, as the example has it; only ports, names and files are the test's."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        pytest.skip("there is no nginx on this machine: install one to try deploy/nginx/hookline.conf")
    folder = tmp_path_factory.mktemp("nginx")
    _certificate(folder)
    plain, tls = free_port(), free_port()
    changed: dict[str, object] = {"root_path": PREFIX, "public_url": f"https://localhost:{tls}", "request_log": True}
    changed["trusted_proxies"] = (ipaddress.ip_network("127.0.0.1/32"),)
    with served(world.settings.model_copy(update=changed)) as behind:
        given = CONF.read_text()
        for old, new in (
            ("server 127.0.0.1:8080;", f"server {behind.removeprefix('http://')};"),
            ("listen 80;", f"listen 127.0.0.1:{plain};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{tls} ssl;"),
            ("    listen [::]:80;\n", ""),
            ("    listen [::]:443 ssl;\n", ""),
            ("/etc/nginx/tls", str(folder)),
            ("/var/log/nginx", str(folder)),
        ):
            assert old in given
            given = given.replace(old, new)
        (folder / "hookline.conf").write_text(given)
        (folder / "nginx.conf").write_text(_FRAME.format(folder=folder))
        started = subprocess.Popen([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")])
        try:
            trusting = ssl.create_default_context(cafile=folder / "hooks.example.com.crt")
            with httpx.Client(verify=trusting, timeout=PATIENCE_SECONDS) as client:
                url = f"https://localhost:{tls}"

                def answers() -> bool:
                    assert started.poll() is None, (folder / "error.log").read_text()
                    try:
                        return client.get(f"{url}{PREFIX}/healthz").is_success
                    except httpx.TransportError:
                        return False

                wait_until(answers, "nginx's first answer")
                yield Site(url, plain, client, folder)
        finally:
            started.terminate()
            started.wait()


def test_the_console_stays_below_the_prefix(site: Site, world: World) -> None:
    client = site.client
    start = client.get(f"{site.url}{PREFIX}", follow_redirects=True)
    assert (start.status_code, start.url.path) == (200, f"{PREFIX}/console/sign-in")
    headers = {"Origin": site.url}
    address = f"{site.url}{PREFIX}/console/sign-in"
    signed = client.post(
        address, data={"key": world.keys["admin"], "next": "/console/e/acme/automations"}, headers=headers
    )
    assert (signed.status_code, signed.headers["location"]) == (303, f"{PREFIX}/console/e/acme/automations")
    assert "__Secure-hookline=" in signed.headers["set-cookie"]
    assert {f"Path={PREFIX}", "Secure", "HttpOnly"} <= set(signed.headers["set-cookie"].split("; "))
    seen: set[str] = set()
    ahead = [f"{PREFIX}/console/e/acme"]
    while ahead:
        path = ahead.pop()
        shape = re.sub(r"[?].*|_[0-9a-z]{1,30}\b|/[0-9]+", "", path)
        if shape in seen:
            continue
        seen.add(shape)
        page = client.get(f"{site.url}{path}", follow_redirects=True)
        assert page.status_code == 200, path
        if not page.headers["content-type"].startswith("text/html"):
            continue
        for kind, link in _LINK.findall(page.text):
            if link.startswith("/"):
                assert link.startswith(f"{PREFIX}/"), (path, link)
                if kind in ("href", "src"):
                    ahead.append(link.replace("&amp;", "&"))
    assert len(seen) > 20, "the pages link each other"


def test_rest_its_description_and_the_command_line_are_below_the_prefix(site: Site, world: World) -> None:
    client, root = site.client, f"{site.url}{PREFIX}"
    document = client.get(f"{root}/openapi.json").json()
    assert document["servers"] == [{"url": PREFIX}]
    for path in ("/docs", "/redoc"):
        page = client.get(f"{root}{path}").text
        assets = re.findall(r'(?:src|href)="(/[^"]+)"', page)
        assert assets
        for one in (*assets, *re.findall(r"url: '([^']+)'", page)):
            assert one.startswith(f"{PREFIX}/")
            assert client.get(f"{site.url}{one}").status_code == 200
    key = {"Authorization": f"Bearer {world.keys['admin']}"}
    assert client.get(f"{root}/v1/entities/acme/deliveries", headers=key).status_code == 200
    assert client.post(f"{root}/graphql", json={"query": "{ viewer { username } }"}, headers=key).status_code == 200
    put = client.put(f"{root}/v1/entities/acme/projects/a%2Fb", json={}, headers=key)
    assert put.json()["name"] == "a/b"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(site.folder / "hooks.example.com.crt"))
        key_of = SecretStr(world.keys["admin"])
        with Client(world.settings.model_copy(update={"url": root, "api_key": key_of})) as own:
            assert own.export("acme")["webhooks"]
    assert client.get(f"{root}/metrics").status_code == 404
    moved = httpx.get(f"http://127.0.0.1:{site.plain_port}/hookline/docs", headers={"Host": "hooks.example.com"})
    assert (moved.status_code, moved.headers["location"]) == (308, "https://hooks.example.com/hookline/docs")


def test_a_body_of_8_mib_gets_through_and_hookline_says_what_is_too_large(site: Site, world: World) -> None:
    key = {"Authorization": f"Bearer {world.keys['publisher']}", "Content-Type": "application/cloudevents-batch+json"}
    url = f"{site.url}{PREFIX}/v1/events"
    fits = site.client.post(url, content=b"[" + b" " * ((8 << 20) - 2) + b"]", headers=key)
    assert fits.status_code in (202, 422), fits.text
    large = site.client.post(url, content=b" " * ((8 << 20) + 1), headers=key)
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")


def test_the_log_has_the_clients_address_and_no_other_that_it_claims(site: Site, world: World) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        headers = {"X-Forwarded-For": "203.0.113.9", "Authorization": f"Bearer {world.keys['admin']}"}
        trusting = ssl.create_default_context(cafile=site.folder / "hooks.example.com.crt")
        transport = httpx.HTTPTransport(verify=trusting, local_address="127.0.0.2")
        with httpx.Client(transport=transport, timeout=PATIENCE_SECONDS) as other:
            assert (
                other.get(f"{site.url}{PREFIX}/v1/entities/acme/deliveries?reason=canary", headers=headers).status_code
                == 200
            )
    [line] = [one for one in logs if one["event"] == "api.request"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/entities/acme/deliveries", 200)
    assert line["client"] == "127.0.0.2"
    assert "canary" not in str(line)
