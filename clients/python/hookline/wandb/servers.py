"""Whom the completed client may speak to: Hookline, and nobody who would get a key that is not meant for him."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from hookline.errors import HooklineError, Unreachable

_WANDBS_OWN = ("wandb.ai", "wandb.com", "wandb.io", "coreweave.com")
_PATH = "/v1/health"
_PROBLEM = "urn:hookline:problem:"
"""How the `type` of each refusal of Hookline's REST API begins; without a key that path is refused."""
_MAX_ANSWER_BYTES = 64 << 10
_TIMEOUT_SECONDS = 10.0
_PATIENCE_SECONDS = 15.0
"""As long as a Hookline that is just restarted may take to answer."""
_PAUSE_SECONDS = 0.5
_BUSY = frozenset({429, 502, 503, 504})

_known: set[str] = set()


class ForeignServer(HooklineError):
    """The completed client was to speak to a server that is not Hookline, which was sent no key."""


def require_hookline(url: str) -> None:
    """Return if Hookline answers at this base URL; it is asked once for each.

    Raises:
        ForeignServer: for a host of W&B's, which is not asked at all, and where something else answers.
        Unreachable: where nothing answers.
    """
    url = url.rstrip("/")
    if url in _known:
        return
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if any(host == own or host.endswith(f".{own}") for own in _WANDBS_OWN):
        raise ForeignServer(
            f"hookline.wandb speaks to Hookline only, and {host} is W&B's: set WANDB_BASE_URL to Hookline's address"
        )
    status, body, elsewhere = _answer(url)
    if elsewhere is not None:
        raise ForeignServer(
            f"hookline.wandb speaks to Hookline only, and {url} redirects to {elsewhere}: set WANDB_BASE_URL to"
            " Hookline's own address"
        )
    if not _is_hooklines(body):
        raise ForeignServer(
            f"hookline.wandb speaks to Hookline only, and what answers at {url} ({status}) is not Hookline: set"
            " WANDB_BASE_URL to Hookline's address"
        )
    _known.add(url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_of: object) -> None:
        """None: the redirect itself is the answer."""


def _answer(url: str) -> tuple[int, bytes, str | None]:
    """Status, body, and the host that it redirects to, of an answer that is no sign of being busy."""
    opener = urllib.request.build_opener(_NoRedirect())
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        fault = "is busy"
        try:
            opener.open(f"{url}{_PATH}", timeout=_TIMEOUT_SECONDS).close()
            return 200, b"", None  # Hookline would have asked for a key
        except urllib.error.HTTPError as refusal:
            with refusal:
                if refusal.code not in _BUSY:
                    target = refusal.headers.get("Location") if 300 <= refusal.code < 400 else None
                    elsewhere = None if target is None else (urlsplit(target).hostname or target)
                    return refusal.code, refusal.read(_MAX_ANSWER_BYTES), elsewhere
            fault = f"answered {refusal.code}"
        except (OSError, HTTPException, ValueError) as exc:
            fault = str(getattr(exc, "reason", None) or exc or type(exc).__name__)
        if time.monotonic() > deadline:
            raise Unreachable(f"hookline.wandb asked {url} whether it is Hookline, and got no answer: {fault}")
        time.sleep(_PAUSE_SECONDS)


def _is_hooklines(body: bytes) -> bool:
    try:
        problem = json.loads(body)
    except ValueError:
        return False
    return isinstance(problem, dict) and str(problem.get("type", "")).startswith(_PROBLEM)
