"""A small OpenID Connect provider behind a real server: discovery, keys, codes with PKCE, signed tokens.

Whoever comes is signed in at once, as the account that the test chose. Faults are knobs: what they make of a token
would be right but for the one thing.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.integration.processes import wait_until
from tests.servers import free_port

CLIENT_ID, CLIENT_SECRET = "hookline-client", "canary-client-secret-7d2f"


@dataclass
class Provider:
    """The provider's state, and the faults of the tokens that it gives."""

    issuer: str
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "subject-1"})
    keys: list[RSAKey] = field(default_factory=list)
    published: list[RSAKey] | None = None
    """The keys that it tells, if they are not those that it signs with."""
    wrong: dict[str, Any] = field(default_factory=dict)
    """Claims of the ID token that are other ones than they should be; None takes one away."""
    algorithm: str = "RS256"
    metadata: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def rotate(self) -> None:
        """Sign with a new key from now on."""
        self.keys = [RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})]

    def _sign(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce, **self.claims}
        claims = {name: value for name, value in (claims | self.wrong).items() if value is not None}
        key = self.keys[0]
        if self.algorithm == "none":
            parts = ({"alg": "none", "typ": "JWT"}, claims)
            import json

            return (
                ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
                + "."
            )
        return str(jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, key))

    async def configuration(self, _request: Request) -> Response:
        """Discovery."""
        told = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/end",
            "id_token_signing_alg_values_supported": ["RS256", "none"],
        }
        return JSONResponse(told | self.metadata)

    async def jwks(self, _request: Request) -> Response:
        """The public keys."""
        self.asked.append("jwks")
        return JSONResponse(KeySet([*(self.published or self.keys)]).as_dict(private=False))

    async def authorize(self, request: Request) -> Response:
        """Send the browser back with a code."""
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT_ID and asked["code_challenge_method"] == "S256", asked
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 302)

    async def token(self, request: Request) -> Response:
        """Give a token for a code, once, to whoever began and knows the client's secret."""
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        asked = self.codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        fits = asked is not None and asked["code_challenge"] == challenge
        if not fits or request.headers.get("authorization") != f"Basic {basic}" or asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = self._sign(asked["nonce"])
        self.tokens.append(token)
        return JSONResponse({"access_token": "access-canary-1c", "token_type": "Bearer", "id_token": token})

    async def end(self, request: Request) -> Response:
        """Sign out."""
        self.asked.append(f"end {request.query_params.get('client_id')}")
        return RedirectResponse(request.query_params["post_logout_redirect_uri"], 302)


@contextmanager
def providing() -> Iterator[Provider]:
    """A provider behind a server of its own."""
    port = free_port()
    provider = Provider(f"http://127.0.0.1:{port}")
    provider.rotate()
    app = Starlette(
        routes=[
            Route("/.well-known/openid-configuration", provider.configuration),
            Route("/jwks", provider.jwks),
            Route("/authorize", provider.authorize),
            Route("/token", provider.token, methods=["POST"]),
            Route("/end", provider.end),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run, name="identity-provider")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the provider's start")
        yield provider
    finally:
        server.should_exit = True
        thread.join()
