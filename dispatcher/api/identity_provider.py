"""The identity provider with which people sign in to the console: OpenID Connect's code flow, by Authlib.

PKCE (RFC 7636), `state` and `nonce` bind what comes back to the browser that began. Only what Authlib has checked of an
ID token is passed on: signature, issuer, audience, times and nonce.
"""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from fastapi import Request

from dispatcher.control.identities import Account
from shared.config.setting_types import InvalidSetting
from shared.domain.errors import HooklineError
from shared.domain.visible_text import shortened
from shared.settings import Settings

if TYPE_CHECKING:
    from authlib.integrations.starlette_client import StarletteOAuth2App

TIMEOUT_SECONDS = 10.0
LEEWAY_SECONDS = 60
"""How far the provider's clock may be off."""
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Of what the provider signs with: none that needs a secret that both know, and not `none`."""
MAX_REASON_CHARS = 200


class SignInFailed(HooklineError):
    """Nobody was signed in; the text says why, for the person who tried."""


class IdentityProvider:
    """One provider. Its metadata is read at the first use, and its keys again when it signs with a new one."""

    def __init__(self, app: StarletteOAuth2App, issuer: str, client_id: str) -> None:
        self._app = app
        self._issuer = issuer
        self._client_id = client_id

    async def begin(self, request: Request, redirect_uri: str) -> str:
        """Where to send the browser. What must be known when it comes back is in `request.session` then.

        Raises:
            SignInFailed: when the provider can't be used.
        """
        try:
            await self._metadata()
            answer = await self._app.authorize_redirect(request, redirect_uri)
        except (httpx.HTTPError, RuntimeError, ValueError, KeyError) as exc:
            raise SignInFailed("the identity provider can't be reached") from exc
        return str(answer.headers["location"])

    async def finish(self, request: Request) -> Account:
        """Who came back, by the code in the request and by what `request.session` holds of the beginning.

        Raises:
            SignInFailed: when it is somebody else's answer, an old one, or a wrong one.
        """
        from authlib.integrations.base_client import MismatchingStateError, OAuthError
        from joserfc.errors import JoseError

        if request.query_params.get("iss", self._issuer) != self._issuer:  # RFC 9207
            raise SignInFailed("the answer is from another identity provider")
        try:
            await self._metadata()
            token = await self._app.authorize_access_token(
                request, claims_options=self._claims(), leeway=LEEWAY_SECONDS
            )
        except MismatchingStateError as exc:
            raise SignInFailed("this was not begun in this browser, or too long ago: try again") from exc
        except OAuthError as exc:
            reason = shortened(exc.description or exc.error, MAX_REASON_CHARS)
            raise SignInFailed(f"the identity provider refused: {reason}") from exc
        except httpx.HTTPError as exc:
            raise SignInFailed("the identity provider can't be reached") from exc
        except (JoseError, ValueError, KeyError, TypeError, RuntimeError) as exc:
            raise SignInFailed("what the identity provider answered is not valid") from exc
        claims: Mapping[str, Any] | None = token.get("userinfo")
        if claims is None:
            raise SignInFailed("the identity provider says nothing of who you are")
        return Account(self._issuer, str(claims["sub"]), dict(claims))

    async def sign_out_address(self, back: str) -> str | None:
        """Where a browser is signed out at the provider too; None where it can't be."""
        try:
            metadata = await self._metadata()
        except (httpx.HTTPError, RuntimeError, ValueError, KeyError):
            return None
        if not metadata.get("end_session_endpoint"):
            return None
        made = await self._app.create_logout_url(post_logout_redirect_uri=back, client_id=self._client_id)
        return str(made["url"])

    async def _metadata(self) -> Mapping[str, Any]:
        """The provider's metadata. Raises RuntimeError for those of another issuer (Discovery 1.0, section 4.3)."""
        metadata = await self._app.load_server_metadata()
        if metadata.get("issuer") != self._issuer:
            self._app.server_metadata.clear()
            raise RuntimeError("the metadata are of another issuer")
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [name for name in offered if name in ALGORITHMS] or [
            "RS256"
        ]
        return dict(metadata)

    def _claims(self) -> dict[str, Any]:
        return {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client_id},
            "sub": {"essential": True},
            "exp": {"essential": True},
        }


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_identity_provider(settings: Settings) -> IdentityProvider | None:
    """The configured provider; None where none is.

    Raises:
        InvalidSetting: when a part of its configuration, or the extra `oidc`, is missing.
    """
    if settings.oidc_issuer is None:
        return None
    host = urlsplit(settings.oidc_issuer).hostname or ""
    if not settings.oidc_issuer.startswith("https://") and not is_loopback(host):
        raise InvalidSetting("HOOKLINE_OIDC_ISSUER: must begin with https://, except on this machine")
    if settings.oidc_client_id is None:
        raise InvalidSetting("HOOKLINE_OIDC_CLIENT_ID: is required with HOOKLINE_OIDC_ISSUER")
    try:
        with warnings.catch_warnings():  # of Authlib's own use of httpx
            warnings.simplefilter("ignore")
            from authlib.integrations.starlette_client import OAuth
    except ImportError:
        raise InvalidSetting("HOOKLINE_OIDC_ISSUER: needs the extra oidc: pip install 'hookline[oidc]'") from None
    secret = settings.oidc_client_secret
    issuer = settings.oidc_issuer
    app = OAuth().register(
        "provider",
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_id=settings.oidc_client_id,
        client_secret=None if secret is None else secret.get_secret_value(),
        client_kwargs={
            "scope": settings.oidc_scopes,
            "code_challenge_method": "S256",
            "timeout": TIMEOUT_SECONDS,
            "token_endpoint_auth_method": "none" if secret is None else "client_secret_basic",
        },
    )
    return IdentityProvider(app, issuer, settings.oidc_client_id)
